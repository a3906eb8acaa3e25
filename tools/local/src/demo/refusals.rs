//! Step 6, first part: requests that are refused, and their answers.

use anyhow::ensure;
use serde_json::Value;

use super::front_door::{Secret, sign_request};
use super::{Demo, Wallet};

pub(super) async fn run(demo: &mut Demo<'_>, wallet: &Wallet) -> anyhow::Result<()> {
    demo.report.chapter("What is refused");
    let stranger = Wallet {
        key_id: wallet.key_id.clone(),
        address: wallet.address,
        secret: Secret::random()?,
    };
    refuse(
        demo,
        "another secret",
        &sign_request(&stranger, TRANSFER),
        403,
        "authentication_failed",
    )
    .await?;

    let unknown = Wallet {
        key_id: uuid::Uuid::new_v4().to_string(),
        address: wallet.address,
        secret: Secret::random()?,
    };
    refuse(
        demo,
        "a key that does not exist",
        &sign_request(&unknown, TRANSFER),
        404,
        "key_not_found",
    )
    .await?;

    let negative = TRANSFER.replace("0.01", "-0.01");
    let sentence = refuse(
        demo,
        "a negative value",
        &sign_request(wallet, &negative),
        400,
        "invalid_field",
    )
    .await?;
    ensure!(
        sentence.contains("transaction_payload.value"),
        "the field is not named: {sentence}"
    );

    let (answer, took) = demo
        .door
        .post_unsigned("/sign_transaction", &sign_request(wallet, TRANSFER))
        .await?;
    let message = serde_json::from_slice::<Value>(&answer.body)
        .ok()
        .and_then(|body| body["message"].as_str().map(str::to_owned));
    ensure!(
        (answer.status, message.as_deref()) == (403, Some("Missing Authentication Token")),
        "an unsigned request is answered {}: {}",
        answer.status,
        answer.text()
    );
    demo.report.held(
        "a request without a signature: 403 Missing Authentication Token",
        Some(took),
    );
    Ok(())
}

async fn refuse(
    demo: &mut Demo<'_>,
    what: &str,
    body: &str,
    status: u16,
    code: &str,
) -> anyhow::Result<String> {
    let (sentence, took) = demo
        .door
        .refused("/sign_transaction", body, status, code)
        .await?;
    demo.report
        .held(&format!("{what}: {status} {code}"), Some(took));
    Ok(sentence)
}

/// A valid payload.
pub(super) const TRANSFER: &str = r#"{"type":2,"chainId":1337,"nonce":0,"gas":21000,"maxFeePerGas":20000000000,"maxPriorityFeePerGas":1000000000,"value":0.01,"to":"0xa5D3241A1591061F2a4bB69CA0215F66520E67cf"}"#;
