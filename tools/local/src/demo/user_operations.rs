//! Step 5: real EntryPoint contracts accept operations that the wallet signed.

use alloy_primitives::U256;
use anyhow::ensure;

use super::{Demo, Wallet, stranger};
use crate::user_operation::{Deployment, Release};

pub(super) async fn run(demo: &mut Demo<'_>, wallet: &Wallet) -> anyhow::Result<()> {
    demo.report
        .chapter("EntryPoint contracts carry out signed user operations (ERC-4337)");
    for (release, form) in [
        (Release::V0_8, "the raw hash"),
        (Release::V0_7, "the EIP-191 hash, made by the caller"),
    ] {
        let contracts = Deployment::new(demo.chain, demo.stack.packages(), release).await?;
        let recipient = stranger()?;
        let operation = contracts
            .first_operation(wallet.address, recipient, U256::from(WEI))
            .await?;
        let (signature, took) = demo.door.sign_hash(wallet, operation.to_be_signed).await?;
        demo.report.held(
            &format!("EntryPoint {}: {form} is signed", release.as_str()),
            Some(took),
        );

        let account = operation.account;
        contracts.handle(operation, signature).await?;
        ensure!(
            contracts.owner(account).await? == wallet.address,
            "the account has another owner"
        );
        ensure!(
            demo.chain.balance(recipient).await? == U256::from(WEI),
            "the operation moved another amount"
        );
        demo.report.held(
            &format!(
                "EntryPoint {}: handleOps accepts it, creates {account} and moves its ether",
                release.as_str()
            ),
            None,
        );
    }
    Ok(())
}

const WEI: u64 = 123_456_789;
