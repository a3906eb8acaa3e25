//! Step 3: an ERC-20 contract is deployed, and its `transfer` called, with transactions of the
//! wallet.

use alloy_primitives::{Address, U256};
use alloy_sol_types::{SolCall as _, SolConstructor as _};
use anyhow::{Context as _, ensure};

use super::transfer::send;
use super::{Demo, Wallet, stranger};
use crate::contracts::{Erc20, creation_code};

pub(super) async fn run(demo: &mut Demo<'_>, wallet: &Wallet) -> anyhow::Result<()> {
    demo.report
        .chapter("A contract is deployed and called: an ERC-20 token");
    let artifact = demo
        .stack
        .packages()
        .file("@openzeppelin/contracts/build/contracts/ERC20PresetFixedSupply.json");
    let arguments = Erc20::constructorCall {
        name: "Cloister".to_owned(),
        symbol: "CLO".to_owned(),
        initialSupply: U256::from(SUPPLY),
        owner: wallet.address,
    };
    let code = [creation_code(&artifact)?.as_ref(), &arguments.abi_encode()].concat();
    let fields = format!(
        r#""value":0,"to":null,"gas":3000000,"data":"{}""#,
        const_hex::encode_prefixed(&code)
    );
    let receipt = send(demo, wallet, &fields, "the deployment").await?;
    let token = receipt
        .contract_address
        .context("no contract was created")?;
    ensure!(
        token == wallet.address.create(1),
        "the contract has an unexpected address"
    );
    ensure!(
        balance(demo, token, wallet.address).await? == U256::from(SUPPLY),
        "the supply is another"
    );
    demo.report.held(
        &format!("the token {token} gave its whole supply to our address"),
        None,
    );

    let recipient = stranger()?;
    let call = Erc20::transferCall {
        to: recipient,
        amount: U256::from(AMOUNT),
    }
    .abi_encode();
    let call = const_hex::encode_prefixed(call);
    let fields = format!(r#""value":"0","to":"{token}","gas":100000,"input":"{call}""#);
    send(demo, wallet, &fields, "a transfer of tokens").await?;
    ensure!(
        balance(demo, token, recipient).await? == U256::from(AMOUNT),
        "the recipient has another amount of tokens"
    );
    ensure!(
        balance(demo, token, wallet.address).await? == U256::from(SUPPLY - AMOUNT),
        "the sender has another amount of tokens"
    );
    demo.report
        .held("both balances of the token are right", None);
    Ok(())
}

async fn balance(demo: &Demo<'_>, token: Address, account: Address) -> anyhow::Result<U256> {
    let answer = demo
        .chain
        .read(token, &Erc20::balanceOfCall { account }.abi_encode())
        .await?;
    Erc20::balanceOfCall::abi_decode_returns(&answer).context("balanceOf answers something else")
}

const SUPPLY: u64 = 1_000_000;
const AMOUNT: u64 = 2_500;
