//! The demonstration: what a customer of the wallet does, through the front door with SigV4 only,
//! checked against a real chain; and what the wallet refuses.

mod documentation;
mod front_door;
mod generation;
mod measurement;
mod refusals;
mod report;
mod swap;
mod token;
mod transfer;
mod user_operations;

use alloy_primitives::Address;
use anyhow::Context as _;

use crate::chain::Chain;
use crate::stack::Stack;
use front_door::FrontDoor;
pub use report::{Format, Report};

/// Runs every step on a running stack. The report has then told everything, the failure included.
///
/// # Errors
/// The first step that did not hold.
pub async fn run(stack: &Stack, report: &mut Report) -> anyhow::Result<()> {
    let outcome = steps(stack, report).await;
    report.conclude(outcome.as_ref().err());
    outcome
}

async fn steps(stack: &Stack, report: &mut Report) -> anyhow::Result<()> {
    let chain = stack.chain().context("the demonstration needs a chain")?;
    let mut demo = Demo {
        stack,
        chain,
        door: FrontDoor::new(stack.client()?),
        report,
    };
    let wallet = generation::run(&mut demo).await?;
    transfer::run(&mut demo, &wallet).await?;
    token::run(&mut demo, &wallet).await?;
    documentation::run(&mut demo).await?;
    user_operations::run(&mut demo, &wallet).await?;
    refusals::run(&mut demo, &wallet).await?;
    swap::run(&mut demo, &wallet).await?;
    measurement::run(&mut demo, &wallet).await
}

/// What every step works with.
struct Demo<'a> {
    stack: &'a Stack,
    chain: &'a Chain,
    door: FrontDoor,
    report: &'a mut Report,
}

/// An address that nobody has seen before.
fn stranger() -> anyhow::Result<Address> {
    let mut address = Address::ZERO;
    getrandom::fill(address.as_mut_slice()).context("the operating system gives no randomness")?;
    Ok(address)
}

/// A key of the wallet and the secret that belongs to it.
#[derive(Debug)]
struct Wallet {
    key_id: String,
    address: Address,
    secret: front_door::Secret,
}
