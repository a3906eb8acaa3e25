//! Every vector through every form a request may take.

use std::path::Path;

use cloister_client::Response;
use cloister_e2e::{Key, Local, Refused, json_body};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// One case: what is signed with which key, and what comes out or which code it is refused with.
#[derive(Deserialize)]
struct Vector {
    name: String,
    eth_key: String,
    address: String,
    transaction_payload: Box<RawValue>,
    transaction_signed: Option<String>,
    transaction_hash: Option<String>,
    signature: Option<String>,
    code: Option<String>,
    field: Option<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_through_every_form() {
    let local = Local::start().await;
    for vector in vectors() {
        let name = &vector.name;
        let key = local.import(&vector.eth_key).await;
        assert_eq!(key.address.to_lowercase(), vector.address, "{name}");
        let payload = vector.transaction_payload.get();
        let body = key.sign_body(payload);
        let check = |form: &str, answer: &Response, wrapped: bool| {
            let body = json_body(answer);
            // A direct invoke that is refused is not a failed function: Lambda itself answers 200.
            let refused_status = if form == "direct invoke" { 200 } else { 400 };
            if let Some(code) = &vector.code {
                let refused = Refused::in_body(&body);
                assert_eq!(
                    (answer.status, refused.status, &refused.code),
                    (refused_status, 400, code),
                    "{name}: {form}"
                );
                assert!(
                    vector
                        .field
                        .as_ref()
                        .is_none_or(|field| *field == refused.field),
                    "{name}: {form}: {body}"
                );
            } else {
                assert_eq!(
                    (answer.status, body),
                    (200, vector.success(wrapped)),
                    "{name}: {form}"
                );
            }
        };
        check(
            "route",
            &local.post("/sign_transaction", &body).await,
            false,
        );
        for operation in ["ethereum-signer_sign_transaction", "sign_transaction"] {
            let envelope = format!(r#"{{"operation":"{operation}","payload":{body}}}"#);
            check(operation, &local.post("/", &envelope).await, false);
            let direct = local.client.invoke("front-door", envelope).await.unwrap();
            assert!(
                !direct.headers.contains_key("x-amz-function-error"),
                "{name}"
            );
            check("direct invoke", &direct, false);
        }
        let path = format!("/key/{}/{}", key.id, vector.last_of_path());
        let without_id = format!(
            r#"{{"secret":"{}","transaction_payload":{payload}}}"#,
            key.secret
        );
        for body in [&body, &without_id] {
            check("REST", &local.post(&path, body).await, true);
        }
    }
}

impl Vector {
    /// The body of a success, as routes and operations answer it or wrapped as the REST form does.
    fn success(&self, wrapped: bool) -> Value {
        let result = match (&self.transaction_signed, wrapped) {
            (Some(signed), false) => {
                json!({ "transaction_signed": signed, "transaction_hash": self.transaction_hash })
            }
            (Some(signed), true) => {
                json!({ "tx_signed": signed.strip_prefix("0x").unwrap(), "tx_hash": self.transaction_hash })
            }
            (None, _) => json!({ "signature": self.signature }),
        };
        if wrapped {
            json!({ "enclave_status": 200, "enclave_result": result })
        } else {
            result
        }
    }

    fn last_of_path(&self) -> &'static str {
        if self.transaction_payload.get().contains("userOpHash") {
            "userop_signature"
        } else {
            "tx_signature"
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_through_every_form() {
    let local = Local::start().await;
    let secret = cloister_e2e::random_secret();
    let eth_key = "372369f374c68952bcb2ba2e3f3802d41d51cb255446c27def96cc848605d679";
    let address = "0x3a82fAB48E073A239FfBB7C8BF913C104ce8d484";
    let imported = |body: &Value| {
        assert!(body["key_id"].as_str().is_some());
        body["address"].as_str().unwrap().to_lowercase() == address.to_lowercase()
    };
    let generate = json!({ "secret": secret });
    let set = json!({ "secret": secret, "eth_key": eth_key });

    assert!(!imported(&json_body(
        &local.post("/generate_key", &generate.to_string()).await
    )));
    assert!(imported(&json_body(
        &local.post("/set_key", &set.to_string()).await
    )));
    for operation in ["ethereum-signer_set_key", "set_key"] {
        let body = json!({ "operation": operation, "payload": set });
        assert!(
            imported(&json_body(&local.post("/", &body.to_string()).await)),
            "{operation}"
        );
        assert!(
            imported(&json_body(
                &local
                    .client
                    .invoke("front-door", body.to_string())
                    .await
                    .unwrap()
            )),
            "{operation}"
        );
    }
    for operation in ["ethereum-key-generator_generate_key", "generate_key"] {
        let body = json!({ "operation": operation, "payload": generate });
        assert!(
            !imported(&json_body(&local.post("/", &body.to_string()).await)),
            "{operation}"
        );
    }
    let wrapped = json_body(&local.post("/key", &generate.to_string()).await);
    assert_eq!(wrapped["enclave_status"], 200);
    assert!(!imported(&wrapped["enclave_result"]));
}

/// The reference deployment ignored `eth_key` here and generated another key.
#[tokio::test(flavor = "multi_thread")]
async fn reference_defect_post_key_ignores_eth_key() {
    let local = Local::start().await;
    let body = json!({
        "secret": cloister_e2e::random_secret(),
        "eth_key": "6835311872e1c63b50a8edd16605e2253c2a9c58ef9bf41f1d1c0c724981931a",
    });
    let answer = json_body(&local.post("/key", &body.to_string()).await);
    assert_eq!(
        answer["enclave_result"]["address"],
        "0xe06C2c216fC36E2d40fB0199623032CC17b3B41b"
    );
}

/// A key whose number starts with zero bytes is as good as any other; the reference deployment lost
/// the zeros.
#[tokio::test(flavor = "multi_thread")]
async fn reference_defect_short_keys() {
    let local = Local::start().await;
    for zeros in [1, 8, 16, 31] {
        let eth_key = format!("{}{}", "00".repeat(zeros), "17".repeat(32 - zeros));
        let key = local.import(&eth_key).await;
        local.sign(&key, cloister_e2e::TRANSFER).await;
    }
}

/// A caller that keeps its secret sends a MAC instead.
#[tokio::test(flavor = "multi_thread")]
async fn authenticated_form() {
    use cloister_protocol::request::AuthenticatedRequest;
    use std::time::{SystemTime, UNIX_EPOCH};

    let local = Local::start().await;
    let key = local.generate().await;
    let secret = cloister_protocol::CallerSecret::new(key.secret.clone().into()).unwrap();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let send = async |timestamp: u64, tampered: bool| {
        let mut request = AuthenticatedRequest::new(
            key.id.parse().unwrap(),
            &secret,
            timestamp,
            cloister_e2e::TRANSFER,
        );
        if tampered {
            request.payload = request.payload.replace("0.01", "0.02");
        }
        let body = format!(
            r#"{{"authenticated":{}}}"#,
            String::from_utf8(request.to_json()).unwrap()
        );
        local.post("/sign_transaction", &body).await
    };
    assert_eq!(
        json_body(&send(now, false).await),
        local.sign(&key, cloister_e2e::TRANSFER).await
    );
    assert_eq!(
        Refused::new(&send(now, true).await).code,
        "authentication_failed"
    );
    for outside in [now - 100, now + 100] {
        let refused = Refused::new(&send(outside, false).await);
        assert_eq!(
            (refused.code.as_str(), refused.field.as_str()),
            ("timestamp_out_of_window", "authenticated.timestamp")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_must_be_the_keys_address() {
    let local = Local::start().await;
    let key: Key = local.generate().await;
    let with_from =
        |from: &str| cloister_e2e::TRANSFER.replacen('{', &format!(r#"{{"from":"{from}","#), 1);
    local.sign(&key, &with_from(&key.address)).await;
    let stranger = with_from("0xa5D3241A1591061F2a4bB69CA0215F66520E67cf");
    let refused = Refused::new(
        &local
            .post("/sign_transaction", &key.sign_body(&stranger))
            .await,
    );
    assert_eq!(
        (refused.status, refused.field.as_str()),
        (400, "transaction_payload.from")
    );
}

fn vectors() -> Vec<Vector> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("vectors/signing");
    let files = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let vectors: Vec<Vector> = files
        .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
        .collect();
    assert!(
        vectors.iter().any(|vector| vector.code.is_some())
            && vectors.iter().any(|vector| vector.signature.is_some())
    );
    vectors
}
