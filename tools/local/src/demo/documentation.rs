//! Step 4: the key of the reference deployment's documentation, imported, signs the documentation's
//! transaction byte for byte.

use anyhow::ensure;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Demo;

pub(super) async fn run(demo: &mut Demo<'_>) -> anyhow::Result<()> {
    demo.report
        .chapter("An imported key reproduces the documentation's signed transaction");
    let documented: Documented<'_> = serde_json::from_str(DOCUMENTED)?;
    let (wallet, took) = demo.door.set_key(documented.eth_key).await?;
    ensure!(
        wallet
            .address
            .to_string()
            .eq_ignore_ascii_case(documented.address),
        "the imported key has address {}",
        wallet.address
    );
    demo.report.held(
        &format!("the documentation's key is imported: {}", wallet.address),
        Some(took),
    );

    let (signed, took) = demo
        .door
        .sign(&wallet, documented.transaction_payload.get())
        .await?;
    ensure!(
        signed.transaction == documented.transaction_signed,
        "other bytes were signed: {}",
        signed.transaction
    );
    ensure!(
        signed.hash.to_string() == documented.transaction_hash,
        "another hash was returned: {}",
        signed.hash
    );
    demo.report.held(
        "transaction_signed and transaction_hash are equal byte for byte",
        Some(took),
    );
    Ok(())
}

#[derive(Deserialize)]
struct Documented<'a> {
    eth_key: &'a str,
    address: &'a str,
    #[serde(borrow)]
    transaction_payload: &'a RawValue,
    transaction_signed: &'a str,
    transaction_hash: &'a str,
}

/// From the documentation of the reference deployment; recomputed with two other implementations.
const DOCUMENTED: &str = r#"{
    "eth_key": "6835311872e1c63b50a8edd16605e2253c2a9c58ef9bf41f1d1c0c724981931a",
    "address": "0xe06c2c216fc36e2d40fb0199623032cc17b3b41b",
    "transaction_payload": {"value": 0.01, "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "nonce": 0, "type": 2, "chainId": 4, "gas": 100000, "maxFeePerGas": 100000000000, "maxPriorityFeePerGas": 3000000000},
    "transaction_signed": "0x02f873048084b2d05e0085174876e800830186a094a5d3241a1591061f2a4bb69ca0215f66520e67cf872386f26fc1000080c001a0532545d1f03732f14e079ffa654af836a9cf1c119091f7c9bc3fd15874c5e05da01b40f921e10add034cec47e60c687c212de18fecd581288048ce173124960ab1",
    "transaction_hash": "0x74b4789b79b019b62a535b9fbacf6b3161ca6d2deffe36565c2814520e97fdd3"
}"#;
