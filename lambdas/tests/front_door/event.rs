//! Events in the form of API Gateway and Lambda, and parsed answers.

use serde_json::value::RawValue;
use serde_json::{Value, json};

pub(crate) const SECRET: &str = "9779d2b8f0bc495b1691ce1a2baf8004";
pub(crate) const KEY_ID: &str = "7e99e372-0eba-4001-8002-35e6a1478070";
pub(crate) const ETH_KEY: &str = "6835311872e1c63b50a8edd16605e2253c2a9c58ef9bf41f1d1c0c724981931a";
/// Spaces and trailing zeros are part of what is authenticated.
pub(crate) const TRANSACTION: &str = r#"{ "value": 0.0100, "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "nonce": 0,
    "type": 2, "chainId": 4, "gas": 100000, "maxFeePerGas": 100000000000, "maxPriorityFeePerGas": 3000000000 }"#;
pub(crate) const USER_OP: &str =
    r#"{"userOpHash":"f3df4bcb3b24437160ba86a88f41d522662ed994dddd11ac477cfc16e9a71869"}"#;
pub(crate) const GATEWAY_ID: &str = "d5a8b0f6-gateway";
pub(crate) const LAMBDA_ID: &str = "8476a536-lambda";

pub(crate) fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).unwrap()
}

/// A proxy event with the members AWS sends.
pub(crate) fn gateway(method: &str, resource: &str, body: Option<&str>) -> Box<RawValue> {
    gateway_with(method, resource, &json!({ "body": body }))
}

/// The same with the members of `other` replacing the default ones. In `resource`, the value of
/// `{key_id}` is [`KEY_ID`].
pub(crate) fn gateway_with(method: &str, resource: &str, other: &Value) -> Box<RawValue> {
    let mut event = json!({
        "resource": resource,
        "path": format!("/base-path{}", resource.replace("{key_id}", KEY_ID)),
        "httpMethod": method,
        "headers": { "Content-Type": "application/json", "Host": "api.example" },
        "multiValueHeaders": { "Content-Type": ["application/json"], "Host": ["api.example"] },
        "queryStringParameters": null,
        "multiValueQueryStringParameters": null,
        "pathParameters": resource.contains("{key_id}").then(|| json!({ "key_id": KEY_ID })),
        "stageVariables": null,
        "requestContext": {
            "resourceId": "abc123", "resourcePath": resource, "httpMethod": method, "stage": "prod",
            "requestId": GATEWAY_ID, "identity": { "userArn": "arn:aws:iam::111122223333:user/caller" }
        },
        "body": null,
        "isBase64Encoded": false
    });
    for (name, value) in other.as_object().unwrap() {
        event[name] = value.clone();
    }
    raw(event.to_string())
}

pub(crate) fn sign_body(payload: &str) -> String {
    format!(r#"{{"key_id":"{KEY_ID}","secret":"{SECRET}","transaction_payload":{payload}}}"#)
}

pub(crate) fn sign_body_without_key_id(payload: &str) -> String {
    format!(r#"{{"secret":"{SECRET}","transaction_payload":{payload}}}"#)
}

pub(crate) fn operation_body(operation: &str, payload: &str) -> String {
    format!(r#"{{"operation":"{operation}","payload":{payload}}}"#)
}

/// A proxy response as API Gateway reads it.
pub(crate) struct Answer {
    pub(crate) status: u64,
    pub(crate) headers: Value,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn read(response: &RawValue) -> Self {
        let response: Value = serde_json::from_str(response.get()).unwrap();
        let mut members: Vec<_> = response.as_object().unwrap().keys().cloned().collect();
        members.sort();
        assert_eq!(
            members,
            ["body", "headers", "isBase64Encoded", "statusCode"]
        );
        assert_eq!(response["isBase64Encoded"], false);
        assert_eq!(response["headers"]["content-type"], "application/json");
        Self {
            status: response["statusCode"].as_u64().unwrap(),
            headers: response["headers"].clone(),
            body: serde_json::from_str(response["body"].as_str().unwrap()).unwrap(),
        }
    }
}
