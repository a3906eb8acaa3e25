//! Step 1: a key is generated inside an enclave, and its address funded.

use alloy_primitives::U256;
use anyhow::ensure;

use super::{Demo, Wallet};

pub(super) async fn run(demo: &mut Demo<'_>) -> anyhow::Result<Wallet> {
    demo.report
        .chapter("A key is generated in the enclave, and its address funded");
    let (wallet, took) = demo.door.generate_key().await?;
    demo.report.held(
        &format!("key {} has address {}", wallet.key_id, wallet.address),
        Some(took),
    );

    demo.chain.fund(wallet.address, ether(100)).await?;
    ensure!(
        demo.chain.balance(wallet.address).await? == ether(100),
        "the address was not funded"
    );
    demo.report
        .held("the address holds 100 ether on a real Ethereum node", None);
    Ok(wallet)
}

/// Whole ether in wei.
pub(super) fn ether(amount: u64) -> U256 {
    U256::from(amount) * U256::from(10).pow(U256::from(18))
}
