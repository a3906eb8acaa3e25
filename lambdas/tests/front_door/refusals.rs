//! Every kind of bad input: status, code and field, in the caller's form, with nothing sent to a
//! pod.

use cloister_protocol::limits::MAX_BODY_LEN;
use cloister_protocol::request::AuthenticatedRequest;
use cloister_protocol::{CallerSecret, Code, Rejection};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::event::{
    Answer, ETH_KEY, GATEWAY_ID, KEY_ID, LAMBDA_ID, SECRET, TRANSACTION, USER_OP, gateway,
    gateway_with, operation_body, raw, sign_body, sign_body_without_key_id,
};
use crate::pod::World;

fn check_error(body: &Value, code: Code, field: Option<&str>, request_id: &str) {
    assert_eq!(body["enclave_status"], code.http_status(), "{body}");
    assert_eq!(body["request_id"], request_id, "{body}");
    let result = &body["enclave_result"];
    assert_eq!(result["code"], code.as_str(), "{body}");
    assert_eq!(result.get("field").and_then(Value::as_str), field, "{body}");
    assert_eq!(result["retryable"], code.is_retryable(), "{body}");
    assert!(!result["error"].as_str().unwrap().is_empty(), "{body}");
    assert!(
        !body.to_string().contains(SECRET) && !body.to_string().contains(ETH_KEY),
        "{body}"
    );
}

/// Bodies of `sign_transaction` that are refused.
fn bad_signature_requests() -> Vec<(String, Code, Option<&'static str>)> {
    let payload = |from: &str, to: &str| {
        let changed = TRANSACTION.replace(from, to);
        assert_ne!(changed, TRANSACTION);
        sign_body(&changed)
    };
    let body = |from: &str, to: &str| {
        let body = sign_body(TRANSACTION);
        assert!(body.contains(from));
        body.replace(from, to)
    };
    vec![
        (String::new(), Code::MalformedJson, None),
        ("[]".into(), Code::MalformedJson, None),
        ("{".into(), Code::MalformedJson, None),
        (
            format!("{}x", sign_body(TRANSACTION)),
            Code::MalformedJson,
            None,
        ),
        ("{}".into(), Code::MissingField, Some("secret")),
        (
            body(r#""secret""#, r#""Secret""#),
            Code::MissingField,
            Some("secret"),
        ),
        (
            body(SECRET, "too short"),
            Code::InvalidField,
            Some("secret"),
        ),
        (
            body(&format!("\"{SECRET}\""), "17"),
            Code::InvalidField,
            Some("secret"),
        ),
        (
            body(KEY_ID, &KEY_ID.to_uppercase()),
            Code::InvalidField,
            Some("key_id"),
        ),
        (
            body(&format!("\"{KEY_ID}\""), "null"),
            Code::InvalidField,
            Some("key_id"),
        ),
        (
            sign_body_without_key_id(TRANSACTION),
            Code::MissingField,
            Some("key_id"),
        ),
        (
            body(r#"{"key_id""#, r#"{"extra":1,"key_id""#),
            Code::UnknownField,
            Some("extra"),
        ),
        (
            body(r#"{"key_id""#, r#"{"secret":"x","key_id""#),
            Code::DuplicateField,
            Some("secret"),
        ),
        (
            sign_body("null"),
            Code::InvalidField,
            Some("transaction_payload"),
        ),
        (
            sign_body("\"{}\""),
            Code::InvalidField,
            Some("transaction_payload"),
        ),
        (
            payload("0.0100", "-1"),
            Code::InvalidField,
            Some("transaction_payload.value"),
        ),
        (
            payload("0.0100", "0.0000000000000000001"),
            Code::InvalidField,
            Some("transaction_payload.value"),
        ),
        (
            payload("\"type\": 2", "\"type\": 1"),
            Code::UnsupportedTransactionType,
            Some("transaction_payload.type"),
        ),
        (
            payload("\"nonce\": 0,", ""),
            Code::MissingField,
            Some("transaction_payload.nonce"),
        ),
        (
            payload("\"nonce\"", "\"Nonce\""),
            Code::MissingField,
            Some("transaction_payload.nonce"),
        ),
        (
            payload("\"nonce\": 0,", "\"nonce\": 0, \"x\": 0,"),
            Code::UnknownField,
            Some("transaction_payload.x"),
        ),
        (
            payload("\"nonce\": 0,", "\"nonce\": 0, \"nonce\": 1,"),
            Code::DuplicateField,
            Some("transaction_payload.nonce"),
        ),
        (
            payload("0xa5D3", "0xA5D3"),
            Code::InvalidField,
            Some("transaction_payload.to"),
        ),
        (
            sign_body(&USER_OP.replace("69\"}", "\"}")),
            Code::InvalidField,
            Some("transaction_payload.userOpHash"),
        ),
    ]
}

/// Requests with their route that are refused, in the forms of the gateway.
fn bad_requests() -> Vec<(Box<RawValue>, Code, Option<&'static str>)> {
    let post = |resource: &str, body: &str| gateway("POST", resource, Some(body));
    let generate = format!(r#"{{"secret":"{SECRET}"}}"#);
    let set = |key: &str| format!(r#"{{"secret":"{SECRET}","eth_key":"{key}"}}"#);
    let other_key = KEY_ID.replace("7e99", "8e99");
    let mut requests = vec![
        // Routes
        (post("/nowhere", "{}"), Code::UnknownRoute, None),
        (
            gateway("GET", "/generate_key", None),
            Code::UnknownRoute,
            None,
        ),
        (
            gateway("PUT", "/key", Some(&generate)),
            Code::UnknownRoute,
            None,
        ),
        (
            gateway("POST", "/version", Some("{}")),
            Code::UnknownRoute,
            None,
        ),
        (
            gateway_with(
                "POST",
                "/{proxy+}",
                &json!({
                    "path": "//sign_transaction", "pathParameters": { "proxy": "sign_transaction" },
                    "body": sign_body(TRANSACTION),
                }),
            ),
            Code::UnknownRoute,
            None,
        ),
        (
            gateway("POST", "/health", Some("{}")),
            Code::UnknownRoute,
            None,
        ),
        // Encodings
        (
            gateway_with(
                "POST",
                "/generate_key",
                &json!({ "headers": { "Content-Encoding": "gzip" }, "body": "H4sIAAAA", "isBase64Encoded": true }),
            ),
            Code::UnsupportedContentEncoding,
            None,
        ),
        (
            post(
                "/sign_transaction",
                &sign_body(&TRANSACTION.replace("type", "typ\u{fffd}e")),
            ),
            Code::MalformedJson,
            None,
        ),
        // No body
        (
            gateway("POST", "/generate_key", None),
            Code::MalformedJson,
            None,
        ),
        (gateway("POST", "/", None), Code::MalformedJson, None),
        // Operations
        (post("/", "{}"), Code::MissingField, Some("operation")),
        (
            post("/", r#"{"operation":"generate_key"}"#),
            Code::MissingField,
            Some("payload"),
        ),
        (
            post("/", &operation_body("sign", "{}")),
            Code::UnknownOperation,
            Some("operation"),
        ),
        (
            post("/", r#"{"operation":1,"payload":{}}"#),
            Code::InvalidField,
            Some("operation"),
        ),
        (
            post("/", r#"{"operation":"set_key","payload":"{}"}"#),
            Code::InvalidField,
            Some("payload"),
        ),
        (
            post("/", r#"{"operation":"set_key","payload":{},"x":1}"#),
            Code::UnknownField,
            Some("x"),
        ),
        (
            post("/", r#"{"operation":"set_key","payload":{},"payload":{}}"#),
            Code::DuplicateField,
            Some("payload"),
        ),
        // Keys
        (
            post("/generate_key", "{}"),
            Code::MissingField,
            Some("secret"),
        ),
        (
            post("/generate_key", &set(ETH_KEY)),
            Code::UnknownField,
            Some("eth_key"),
        ),
        (
            post("/set_key", &generate),
            Code::MissingField,
            Some("eth_key"),
        ),
        (
            post("/set_key", &set(&"00".repeat(32))),
            Code::InvalidField,
            Some("eth_key"),
        ),
        (
            post("/set_key", &set(&ETH_KEY[2..])),
            Code::InvalidField,
            Some("eth_key"),
        ),
        (
            post("/key", &set(&"ff".repeat(32))),
            Code::InvalidField,
            Some("eth_key"),
        ),
        (
            post("/key", &format!(r#"{{"secret":"{SECRET}","x":1}}"#)),
            Code::UnknownField,
            Some("x"),
        ),
        // The key in the path
        (
            post(
                "/key/{key_id}/tx_signature",
                &sign_body(TRANSACTION).replace(KEY_ID, &other_key),
            ),
            Code::InvalidField,
            Some("key_id"),
        ),
        (
            gateway_with(
                "POST",
                "/key/{key_id}/tx_signature",
                &json!({ "pathParameters": { "key_id": "../x" }, "body": sign_body_without_key_id(TRANSACTION) }),
            ),
            Code::InvalidField,
            Some("key_id"),
        ),
        // A path signs one kind of payload
        (
            post("/key/{key_id}/tx_signature", &sign_body(USER_OP)),
            Code::InvalidField,
            Some("transaction_payload"),
        ),
        (
            post("/key/{key_id}/userop_signature", &sign_body(TRANSACTION)),
            Code::InvalidField,
            Some("transaction_payload"),
        ),
        // Authenticated by the caller
        (
            post("/sign_transaction", r#"{"authenticated":{}}"#),
            Code::MissingField,
            Some("authenticated.key_id"),
        ),
        (
            post("/sign_transaction", r#"{"authenticated":{},"secret":"x"}"#),
            Code::UnknownField,
            Some("secret"),
        ),
        (
            post("/key/{key_id}/tx_signature", &authenticated(&other_key)),
            Code::InvalidField,
            Some("key_id"),
        ),
        // Size, before anything is parsed
        (
            post("/generate_key", &"[".repeat(MAX_BODY_LEN + 1)),
            Code::BodyTooLarge,
            None,
        ),
        (
            gateway_with(
                "POST",
                "/",
                &json!({ "body": "AAAA".repeat(MAX_BODY_LEN / 3 + 1), "isBase64Encoded": true }),
            ),
            Code::BodyTooLarge,
            None,
        ),
        // Events
        (
            raw(r#"{"requestContext":{"requestId":"x"}}"#.into()),
            Code::ProtocolViolation,
            None,
        ),
        (
            raw(r#"{"requestContext":{},"httpMethod":1,"path":"/"}"#.into()),
            Code::ProtocolViolation,
            None,
        ),
    ];
    for (body, code, field) in bad_signature_requests() {
        requests.push((post("/sign_transaction", &body), code, field));
        let by_path = body.replacen(&format!(r#""key_id":"{KEY_ID}","#), "", 1);
        if field != Some("key_id") && serde_json::from_str::<&RawValue>(&by_path).is_ok() {
            requests.push((post("/key/{key_id}/tx_signature", &by_path), code, field));
        }
    }
    requests
}

fn authenticated(key_id: &str) -> String {
    let secret = CallerSecret::new(SECRET.to_owned().into()).unwrap();
    let request = AuthenticatedRequest::new(key_id.parse().unwrap(), &secret, 1, TRANSACTION);
    format!(
        r#"{{"authenticated":{}}}"#,
        String::from_utf8(request.to_json()).unwrap()
    )
}

#[tokio::test]
async fn bad_requests_are_refused_before_a_pod_sees_them() {
    let world = World::start().await;
    for (event, code, field) in bad_requests() {
        let answer = Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await);
        assert_eq!(
            answer.status,
            u64::from(code.http_status()),
            "{}",
            answer.body
        );
        let request_id = if code == Code::ProtocolViolation {
            LAMBDA_ID
        } else {
            GATEWAY_ID
        };
        check_error(&answer.body, code, field, request_id);
        assert_eq!(answer.headers.get("retry-after"), None);
    }
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn direct_invokes_are_refused_with_the_same_bodies() {
    let world = World::start().await;
    let direct = |payload: &str| operation_body("sign_transaction", payload);
    let mut requests = vec![
        ("null".into(), Code::MalformedJson, None),
        ("[]".into(), Code::MalformedJson, None),
        ("\"generate_key\"".into(), Code::MalformedJson, None),
        ("{}".into(), Code::MissingField, Some("operation")),
        (
            r#"{"operation":"generate_key","payload":[]}"#.into(),
            Code::InvalidField,
            Some("payload"),
        ),
        (
            operation_body("version", "{}"),
            Code::UnknownOperation,
            Some("operation"),
        ),
        (
            format!("\"{}\"", "a".repeat(MAX_BODY_LEN)),
            Code::BodyTooLarge,
            None,
        ),
    ];
    for (body, code, field) in bad_signature_requests() {
        if code != Code::MalformedJson {
            requests.push((direct(&body), code, field));
        }
    }
    for (event, code, field) in requests {
        let body = world.front_door.answer(&raw(event), LAMBDA_ID).await;
        check_error(
            &serde_json::from_str(body.get()).unwrap(),
            code,
            field,
            LAMBDA_ID,
        );
    }
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn the_status_of_an_error_is_never_200() {
    let world = World::start().await;
    let sign = sign_body(TRANSACTION);
    for &code in Code::ALL {
        world.refuse_with(&Rejection::new(code, "a sentence"));
        let event = gateway("POST", "/sign_transaction", Some(&sign));
        let answer = Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await);
        assert_eq!(answer.status, u64::from(code.http_status()));
        check_error(&answer.body, code, None, GATEWAY_ID);
        let waiting_helps = matches!(code.http_status(), 429 | 503) && code.is_retryable();
        assert_eq!(
            answer.headers.get("retry-after").is_some(),
            waiting_helps,
            "{code}"
        );
        let wrapped = gateway("POST", "/key/{key_id}/tx_signature", Some(&sign));
        check_error(
            &Answer::read(&world.front_door.answer(&wrapped, LAMBDA_ID).await).body,
            code,
            None,
            GATEWAY_ID,
        );
        let direct = world
            .front_door
            .answer(&raw(operation_body("sign_transaction", &sign)), LAMBDA_ID)
            .await;
        check_error(
            &serde_json::from_str(direct.get()).unwrap(),
            code,
            None,
            LAMBDA_ID,
        );
    }
}

#[tokio::test]
async fn the_field_an_enclave_names_is_passed_on() {
    let world = World::start().await;
    world.refuse_with(&Rejection::invalid(
        "transaction_payload.from",
        "is not the address of this key",
    ));
    let event = gateway("POST", "/sign_transaction", Some(&sign_body(TRANSACTION)));
    let answer = Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await);
    check_error(
        &answer.body,
        Code::InvalidField,
        Some("transaction_payload.from"),
        GATEWAY_ID,
    );
    assert_eq!(
        answer.body["enclave_result"]["error"],
        "transaction_payload.from: is not the address of this key"
    );
}
