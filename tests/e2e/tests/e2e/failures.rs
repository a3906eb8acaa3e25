//! Parts that are down, refuse or throttle: a clean error with the right status, nothing lost, and
//! work again afterwards.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use cloister_client::Response;
use cloister_contract::events;
use cloister_e2e::{Key, Local, Refused, TRANSFER, eventually};
use cloister_local::identity::table_arn;
use cloister_local::part::Part;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_down_is_unavailable_until_it_is_back() {
    let mut local = Local::start().await;
    let key = local.generate().await;
    let signature = local.sign(&key, TRANSFER).await;
    for part in [Part::SignerEnclave, Part::SignerPod] {
        local.stack.stop(part).unwrap();
        for _ in 0..2 {
            unavailable(
                &local
                    .post("/sign_transaction", &key.sign_body(TRANSFER))
                    .await,
                "enclave_unavailable",
            );
        }
        // The other service does not care.
        local.generate().await;
        local.stack.resume(part).await.unwrap();
        eventually("signing again", async || {
            local
                .post("/sign_transaction", &key.sign_body(TRANSFER))
                .await
                .status
                == 200
        })
        .await;
        assert_eq!(local.sign(&key, TRANSFER).await, signature);
    }
    // A pod that was started again repeats the session of the one before.
    assert!(!local.logged(Part::SignerEnclave, events::SESSION_MISMATCH));
    let rows = local.rows().await.len();
    for part in [Part::KeyGeneratorEnclave, Part::KeyGeneratorPod] {
        local.stack.stop(part).unwrap();
        unavailable(
            &local.post("/generate_key", &generate()).await,
            "enclave_unavailable",
        );
        assert_eq!(local.rows().await.len(), rows);
        local.sign(&key, TRANSFER).await;
        local.stack.resume(part).await.unwrap();
        let mut answer = local.post("/generate_key", &generate()).await;
        eventually("generating again", async || {
            if answer.status != 200 {
                answer = local.post("/generate_key", &generate()).await;
            }
            answer.status == 200
        })
        .await;
        let id = cloister_e2e::json_body(&answer)["key_id"]
            .as_str()
            .unwrap()
            .to_owned();
        local
            .table()
            .delete_item()
            .table_name(table_arn())
            .key("key_id", AttributeValue::S(id))
            .send()
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kms_that_denies_or_throttles() {
    let local = Local::start().await;
    for (error, status, code) in [
        ("AccessDeniedException", 502, "kms_denied"),
        ("ThrottlingException", 503, "kms_unavailable"),
    ] {
        // A key that the signer has not opened yet: otherwise it would not ask KMS.
        let key = local.generate().await;
        local.fault(Part::Kms, "Decrypt", error, 1000).await;
        let answer = local
            .post("/sign_transaction", &key.sign_body(TRANSFER))
            .await;
        refused_without_details(&answer, status, code);
        local.fault(Part::Kms, "Decrypt", error, 0).await;
        local.sign(&key, TRANSFER).await;

        let rows = local.rows().await;
        for operation in ["GenerateDataKey", "Decrypt"] {
            local.fault(Part::Kms, operation, error, 1000).await;
            refused_without_details(
                &local.post("/generate_key", &generate()).await,
                status,
                code,
            );
            local.fault(Part::Kms, operation, error, 0).await;
            // A row that could not be read back through KMS was never acknowledged; whatever is
            // left of it signs nothing for anybody.
            for (id, row) in &rows {
                assert_eq!(local.rows().await.get(id), Some(row), "{operation} {error}");
            }
        }
        local.generate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_throttles() {
    let local = Local::start().await;
    let key = local.generate().await;
    let rows = local.rows().await;
    for error in [
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
    ] {
        local.fault(Part::Table, "GetItem", error, 1000).await;
        refused_without_details(
            &local
                .post("/sign_transaction", &key.sign_body(TRANSFER))
                .await,
            503,
            "storage_throttled",
        );
        local.fault(Part::Table, "GetItem", error, 0).await;
        local.fault(Part::Table, "PutItem", error, 1000).await;
        refused_without_details(
            &local.post("/generate_key", &generate()).await,
            503,
            "storage_throttled",
        );
        assert_eq!(local.rows().await, rows);
        local.fault(Part::Table, "PutItem", error, 0).await;
        local.sign(&key, TRANSFER).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_not_what_they_say() {
    let local = Local::start().await;
    let (key, other) = (local.generate().await, local.generate().await);
    let rows = local.rows().await;
    let changed = |name: &str, value: AttributeValue| {
        let mut row = rows[&key.id].clone();
        row.insert(name.to_owned(), value);
        row
    };
    let number = |number: u32| AttributeValue::N(number.to_string());
    for (what, row) in [
        (
            "another key's envelope",
            changed("sealed", rows[&other.id]["sealed"].clone()),
        ),
        (
            "another address",
            changed("address", AttributeValue::S(other.address.clone())),
        ),
        ("another version", changed("version", number(2))),
        (
            "no envelope",
            changed("sealed", AttributeValue::M(HashMap::new())),
        ),
    ] {
        put(&local, row).await;
        let answer = local
            .post("/sign_transaction", &key.sign_body(TRANSFER))
            .await;
        refused_without_details(&answer, 500, "sealed_row_refused");
        // A row that did not open has no address.
        assert!(!answer.text().contains(&other.address), "{what}");
        put(&local, rows[&key.id].clone()).await;
        local.sign(&key, TRANSFER).await;
    }

    // No envelope binds the time of creation, and nothing reads it: the next row format will.
    put(&local, changed("created_at", number(0))).await;
    local.sign(&key, TRANSFER).await;
    put(&local, rows[&key.id].clone()).await;

    let reference = HashMap::from([
        (
            "key_id".to_owned(),
            AttributeValue::S("7e99e372-0eba-4001-8002-35e6a1478070".to_owned()),
        ),
        (
            "ciphertext".to_owned(),
            AttributeValue::S("AQICAHg=".to_owned()),
        ),
        ("address".to_owned(), AttributeValue::S(key.address.clone())),
    ]);
    put(&local, reference).await;
    let migrated = Key {
        id: "7e99e372-0eba-4001-8002-35e6a1478070".to_owned(),
        ..key.clone()
    };
    refused_without_details(
        &local
            .post("/sign_transaction", &migrated.sign_body(TRANSFER))
            .await,
        409,
        "not_migrated",
    );

    // Every signer can open the canary's row, and to callers it does not exist.
    let canary = Key {
        id: "00000000-0000-0000-0000-000000000000".to_owned(),
        ..key.clone()
    };
    let refused = Refused::new(
        &local
            .post("/sign_transaction", &canary.sign_body(TRANSFER))
            .await,
    );
    assert_eq!((refused.status, &*refused.code), (404, "key_not_found"));
}

/// Guesses get another code, which is not retryable either; the caller with the secret is served all
/// the same.
#[tokio::test(flavor = "multi_thread")]
async fn guesses_never_lock_the_caller_out() {
    let local = Local::start().await;
    let key = local.generate().await;
    let stranger = Key {
        secret: cloister_e2e::random_secret(),
        ..key.clone()
    };
    let mut codes = Vec::new();
    for _ in 0..30 {
        let answer = local
            .post("/sign_transaction", &stranger.sign_body(TRANSFER))
            .await;
        let refused = Refused::new(&answer);
        assert!(!refused.retryable, "{}", refused.code);
        assert!(!answer.headers.contains_key("retry-after"));
        codes.push(refused.code);
        local.sign(&key, TRANSFER).await;
    }
    assert_eq!(codes[0], "authentication_failed");
    assert_eq!(codes[29], "too_many_failures");
}

async fn put(local: &Local, row: HashMap<String, AttributeValue>) {
    local
        .table()
        .put_item()
        .table_name(table_arn())
        .set_item(Some(row))
        .send()
        .await
        .unwrap();
}

fn generate() -> String {
    json!({ "secret": cloister_e2e::random_secret() }).to_string()
}

fn unavailable(answer: &Response, code: &str) {
    let refused = Refused::new(answer);
    assert_eq!(
        (refused.status, &*refused.code, refused.retryable),
        (503, code, true),
        "{}",
        answer.text()
    );
    assert!(answer.headers.contains_key("retry-after"));
}

/// The caller gets the code; the AWS error is only logged.
fn refused_without_details(answer: &Response, status: u16, code: &str) {
    let refused = Refused::new(answer);
    assert_eq!(
        (refused.status, &*refused.code),
        (status, code),
        "{}",
        answer.text()
    );
    for word in ["Exception", "arn:aws", "fault", "amazonaws"] {
        assert!(!answer.text().contains(word), "{}", answer.text());
    }
}
