//! The demonstration: uses the wallet as a customer does, through the front door with SigV4 only,
//! checks every result against a real chain, and checks what the wallet refuses.

mod attestation_gate;
mod documentation;
mod front_door;
mod generation;
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

/// Runs every step on a running stack and reports it, the failure included.
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
    attestation_gate::run(&mut demo, &wallet).await
}

/// Context of every step.
struct Demo<'a> {
    stack: &'a Stack,
    chain: &'a Chain,
    door: FrontDoor,
    report: &'a mut Report,
}

/// A random address.
fn stranger() -> anyhow::Result<Address> {
    let mut address = Address::ZERO;
    getrandom::fill(address.as_mut_slice()).context("the operating system has no randomness")?;
    Ok(address)
}

/// A key of the wallet and its secret.
#[derive(Debug)]
struct Wallet {
    key_id: String,
    address: Address,
    secret: front_door::Secret,
}
