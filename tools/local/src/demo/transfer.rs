//! Step 2: an EIP-1559 transfer, broadcast exactly as the API returned it.

use alloy_primitives::U256;
use anyhow::ensure;
use serde_json::json;

use super::{Demo, Wallet, stranger};
use crate::chain::Receipt;

pub(super) async fn run(demo: &mut Demo<'_>, wallet: &Wallet) -> anyhow::Result<()> {
    demo.report
        .chapter("An EIP-1559 transfer is signed, broadcast unchanged and mined");
    let recipient = stranger()?;
    let before = demo.chain.balance(wallet.address).await?;
    // Ether as a JSON number: what a float would turn into another amount.
    let fields = format!(r#""value":0.01,"to":"{recipient}","gas":21000"#);
    let receipt = send(demo, wallet, &fields, "a transfer of 0.01 ether").await?;

    let amount = U256::from(10_000_000_000_000_000_u64);
    ensure!(
        demo.chain.balance(recipient).await? == amount,
        "the recipient did not get exactly 0.01 ether"
    );
    let after = demo.chain.balance(wallet.address).await?;
    ensure!(
        before - after == amount + receipt.fee(),
        "the sender paid something else than the amount and the fee"
    );
    demo.report.held(
        "exactly 10000000000000000 wei moved, and nothing else but the fee",
        None,
    );
    Ok(())
}

/// Has a transaction with these JSON members signed, broadcasts it as it comes back, and waits
/// until it is mined. The chain must name the hash that the API named, and the wallet's address as
/// the sender.
pub(super) async fn send(
    demo: &mut Demo<'_>,
    wallet: &Wallet,
    fields: &str,
    what: &str,
) -> anyhow::Result<Receipt> {
    let nonce = demo.chain.nonce(wallet.address).await?;
    let chain = json!(demo.chain.id().await?);
    let payload = format!(
        r#"{{"type":2,"chainId":{chain},"nonce":{nonce},"maxFeePerGas":20000000000,"maxPriorityFeePerGas":1000000000,{fields}}}"#
    );
    let (signed, took) = demo.door.sign(wallet, &payload).await?;
    demo.report.held(&format!("{what} is signed"), Some(took));

    let hash = demo.chain.broadcast(&signed.transaction).await?;
    ensure!(
        hash == signed.hash,
        "the chain calls the transaction {hash}, the API called it {}",
        signed.hash
    );
    let receipt = demo.chain.mined(hash).await?;
    ensure!(
        receipt.from == wallet.address,
        "the chain names {} as the sender",
        receipt.from
    );
    demo.report
        .held(&format!("mined as {hash}, sent by our address"), None);
    Ok(receipt)
}
