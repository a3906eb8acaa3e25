//! The hash that an owner signs, tested against the real EntryPoint contracts on a real chain, with a
//! key of this test's own.

use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U256};
use cloister_local::chain::Chain;
use cloister_local::child::{Program, Running};
use cloister_local::packages::Packages;
use cloister_local::user_operation::{Deployment, Release};
use cloister_protocol::PrivateKey;

#[tokio::test]
async fn each_release_accepts_its_own_hash_only() -> anyhow::Result<()> {
    let packages = Packages::install()?;
    let logs = tempfile::tempdir()?;
    let mut anvil = Program::new("anvil", packages.anvil())
        .option("port", "0")
        .start(logs.path())?;
    let chain = Chain::new(listening(&mut anvil).await?)?;
    let key = key();
    let owner = cloister_signing::address(&key);

    for release in [Release::V0_7, Release::V0_8] {
        let contracts = Deployment::new(&chain, &packages, release).await?;
        let recipient = Address::repeat_byte(0x77);
        let before = chain.balance(recipient).await?;
        let operation = contracts
            .first_operation(owner, recipient, U256::from(5))
            .await?;

        let other_form = match release {
            Release::V0_7 => operation.user_op_hash,
            Release::V0_8 => Release::V0_7.to_be_signed(operation.user_op_hash),
        };
        let refused = contracts
            .handle(operation.clone(), sign(&key, other_form, owner))
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("AA24"), "{refused:#}");

        let signature = sign(&key, operation.to_be_signed, owner);
        contracts.handle(operation.clone(), signature).await?;
        assert_eq!(chain.balance(recipient).await? - before, U256::from(5));
        assert_eq!(contracts.owner(operation.account).await?, owner);
    }
    Ok(())
}

async fn listening(anvil: &mut Running) -> anyhow::Result<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let output = anvil.output()?;
        if let Some(address) = output
            .lines()
            .find_map(|line| line.strip_prefix("Listening on "))
        {
            return Ok(format!("http://{address}"));
        }
        assert!(
            anvil.ended().is_none() && Instant::now() < deadline,
            "{}",
            anvil.failure("does not listen")
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn key() -> PrivateKey {
    PrivateKey::take(&mut [7; 32]).expect("a small number is a key")
}

fn sign(key: &PrivateKey, hash: B256, owner: Address) -> Bytes {
    let signature =
        cloister_signing::sign_prehash(key, &hash, owner).expect("the key is the owner's");
    [&signature.r_s[..], &[27 + u8::from(signature.y_odd)]]
        .concat()
        .into()
}
