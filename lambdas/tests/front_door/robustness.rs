//! Every event is answered.

use std::time::SystemTime;

use cloister_lambdas::{FrontDoor, Pods};
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::event::{
    Answer, ETH_KEY, LAMBDA_ID, SECRET, TRANSACTION, gateway, gateway_with, operation_body, raw,
    sign_body,
};
use crate::pod::{Pki, settings};

/// A front door without pods; port 1 of loopback refuses at once.
fn alone(clock: fn() -> SystemTime) -> (FrontDoor, TempDir) {
    let (settings, directory) = settings(1, &Pki::generate().pem());
    (
        FrontDoor::new(Pods::new(&settings).unwrap(), clock),
        directory,
    )
}

fn broken_clock() -> SystemTime {
    panic!("the clock is broken")
}

#[tokio::test]
async fn a_panic_becomes_internal() {
    let (front_door, _directory) = alone(broken_clock);
    let sign = sign_body(TRANSACTION);
    let answer = Answer::read(
        &front_door
            .answer(
                &gateway("POST", "/sign_transaction", Some(&sign)),
                LAMBDA_ID,
            )
            .await,
    );
    assert_eq!(
        (answer.status, &answer.body["enclave_result"]["code"]),
        (500, &json!("internal"))
    );
    assert!(!answer.body.to_string().contains("clock"));
    let direct = front_door
        .answer(&raw(operation_body("sign_transaction", &sign)), LAMBDA_ID)
        .await;
    assert_eq!(
        serde_json::from_str::<Value>(direct.get()).unwrap()["enclave_status"],
        500
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        prop::sample::select(vec![
            SECRET,
            ETH_KEY,
            TRANSACTION,
            "POST",
            "GET",
            "/",
            "/key",
            "/{proxy+}",
            "/key/{key_id}/tx_signature",
            "set_key",
        ])
        .prop_map(Value::from),
    ];
    let name = prop_oneof![
        ".{0,10}",
        prop::sample::select(vec![
            "requestContext",
            "httpMethod",
            "path",
            "resource",
            "pathParameters",
            "body",
            "isBase64Encoded",
            "requestId",
            "operation",
            "payload",
            "secret",
            "eth_key",
            "key_id",
            "proxy",
            "transaction_payload",
            "authenticated",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 32, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The status of an answer, after checking that it is one API Gateway, or a direct invoker,
/// understands.
fn status(answer: &RawValue) -> u64 {
    let value: Value = serde_json::from_str(answer.get()).unwrap();
    if value.get("statusCode").is_some() {
        Answer::read(answer).status
    } else {
        value["enclave_status"].as_u64().unwrap()
    }
}

#[test]
fn arbitrary_events_are_refused_without_a_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // No signature request of the strategies below is complete, so the broken clock is never asked.
    let (front_door, _directory) = alone(broken_clock);
    let refused = |event: &RawValue| {
        let status = status(&runtime.block_on(front_door.answer(event, LAMBDA_ID)));
        (400..500).contains(&status) || status == 502 || status == 503
    };
    proptest!(ProptestConfig::with_cases(512), |(event in any_json(), body in any_json(), noise in ".{0,200}")| {
        prop_assert!(refused(&raw(event.to_string())));
        let base64 = json!({ "body": noise, "isBase64Encoded": true });
        for resource in ["/", "/set_key", "/key", "/key/{key_id}/tx_signature", "/sign_transaction", &noise] {
            prop_assert!(refused(&gateway("POST", resource, Some(&body.to_string()))));
            prop_assert!(refused(&gateway("POST", resource, Some(&noise))));
            prop_assert!(refused(&gateway_with("POST", resource, &event_members(&event))));
            prop_assert!(refused(&gateway_with("POST", resource, &base64)));
        }
    });
}

/// Arbitrary members in a proxy event, the request context kept.
fn event_members(event: &Value) -> Value {
    let mut members = event.as_object().cloned().unwrap_or_default();
    members.remove("requestContext");
    members.remove("httpMethod");
    Value::Object(members)
}

proptest! {
    /// Bytes that are not JSON never reach the function; all others are answered.
    #[test]
    fn arbitrary_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(event) = serde_json::from_slice::<Box<RawValue>>(&bytes) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (front_door, _directory) = alone(broken_clock);
            prop_assert_eq!(status(&runtime.block_on(front_door.answer(&event, LAMBDA_ID))), 400);
        }
    }
}
