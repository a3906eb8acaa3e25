//! Every form × operation: the request to the pod and the response to the caller.

use cloister_protocol::request::AuthenticatedRequest;
use cloister_protocol::{CallerSecret, Code, Rejection};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::event::{
    Answer, ETH_KEY, GATEWAY_ID, KEY_ID, LAMBDA_ID, SECRET, TRANSACTION, USER_OP, gateway,
    gateway_with, operation_body, raw, sign_body, sign_body_without_key_id,
};
use crate::pod::{HEALTH, KEY, NOW, SIGNATURE, SIGNED, World};

/// The request that the pod is expected to receive.
enum Asked {
    /// These bytes, at this path.
    Body(&'static str, String),
    /// A signature request for this payload, authenticated by the front door.
    Signature(&'static str),
}

struct Case {
    name: &'static str,
    event: Box<RawValue>,
    asked: Asked,
    answer: Value,
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn wrapped(result: Value) -> Value {
    json!({ "enclave_status": 200, "enclave_result": result })
}

fn generate_body() -> String {
    format!(r#"{{ "secret" : "{SECRET}" }}"#)
}

fn set_body() -> String {
    format!(r#"{{"eth_key":"{ETH_KEY}",  "secret":"{SECRET}"}}"#)
}

/// The payloads of the three operations, each with the request to the pod and the response.
fn operations() -> Vec<(&'static str, &'static str, String, Asked, &'static str)> {
    let generate = || Asked::Body("/v1/generate_key", generate_body());
    let set = || Asked::Body("/v1/set_key", set_body());
    vec![
        (
            "generate_key",
            "ethereum-key-generator_generate_key",
            generate_body(),
            generate(),
            KEY,
        ),
        ("set_key", "ethereum-signer_set_key", set_body(), set(), KEY),
        (
            "sign_transaction",
            "ethereum-signer_sign_transaction",
            sign_body(TRANSACTION),
            Asked::Signature(TRANSACTION),
            SIGNED,
        ),
        (
            "sign_transaction",
            "ethereum-signer_sign_transaction",
            sign_body(USER_OP),
            Asked::Signature(USER_OP),
            SIGNATURE,
        ),
    ]
}

fn route_form() -> Vec<Case> {
    let case = |(operation, _, body, asked, answer): (_, _, String, _, _)| Case {
        name: operation,
        event: gateway("POST", &format!("/{operation}"), Some(&body)),
        asked,
        answer: value(answer),
    };
    operations().into_iter().map(case).collect()
}

fn operation_form(make: impl Fn(&str) -> Box<RawValue>) -> Vec<Case> {
    let bare = operations()
        .into_iter()
        .map(|(name, _, body, asked, answer)| (name, name, body, asked, answer));
    bare.chain(operations())
        .map(|(name, operation, body, asked, answer)| Case {
            name,
            event: make(&operation_body(operation, &body)),
            asked,
            answer: value(answer),
        })
        .collect()
}

fn rest_form() -> Vec<Case> {
    let transaction = || wrapped(json!({ "tx_signed": "02f8", "tx_hash": "0x74b4" }));
    let signature = || wrapped(value(SIGNATURE));
    let case = |name, resource: &str, body: &str, asked, answer| Case {
        name,
        event: gateway("POST", resource, Some(body)),
        asked,
        answer,
    };
    vec![
        case(
            "key",
            "/key",
            &generate_body(),
            Asked::Body("/v1/generate_key", generate_body()),
            wrapped(value(KEY)),
        ),
        case(
            "tx, key in the path",
            "/key/{key_id}/tx_signature",
            &sign_body_without_key_id(TRANSACTION),
            Asked::Signature(TRANSACTION),
            transaction(),
        ),
        case(
            "tx, key in both",
            "/key/{key_id}/tx_signature",
            &sign_body(TRANSACTION),
            Asked::Signature(TRANSACTION),
            transaction(),
        ),
        case(
            "user op, key in the path",
            "/key/{key_id}/userop_signature",
            &sign_body_without_key_id(USER_OP),
            Asked::Signature(USER_OP),
            signature(),
        ),
        case(
            "user op, key in both",
            "/key/{key_id}/userop_signature",
            &sign_body(USER_OP),
            Asked::Signature(USER_OP),
            signature(),
        ),
    ]
}

fn check_asked(world: &World, case: &Case, request_id: &str) {
    let seen = world.seen();
    let seen = seen.last().unwrap();
    assert_eq!(seen.request_id, request_id, "{}", case.name);
    match &case.asked {
        Asked::Body(path, body) => assert_eq!(
            (seen.path.as_str(), &seen.body),
            (*path, body),
            "{}",
            case.name
        ),
        Asked::Signature(payload) => {
            assert_eq!(
                seen.path,
                format!("/v1/sign_transaction/{KEY_ID}"),
                "{}",
                case.name
            );
            assert!(
                !seen.body.contains(SECRET),
                "the secret travelled on: {}",
                case.name
            );
            let secret = CallerSecret::new(SECRET.to_owned().into()).unwrap();
            let expected =
                AuthenticatedRequest::new(KEY_ID.parse().unwrap(), &secret, NOW, payload);
            assert_eq!(
                AuthenticatedRequest::parse(seen.body.as_bytes()).unwrap(),
                expected,
                "{}",
                case.name
            );
        }
    }
}

#[tokio::test]
async fn forms_of_the_gateway() {
    let world = World::start().await;
    let operation = operation_form(|body| gateway("POST", "/", Some(body)));
    for case in route_form().into_iter().chain(operation).chain(rest_form()) {
        let answer = Answer::read(&world.front_door.answer(&case.event, LAMBDA_ID).await);
        assert_eq!(
            (answer.status, &answer.body),
            (200, &case.answer),
            "{}",
            case.name
        );
        assert_eq!(answer.headers["x-request-id"], GATEWAY_ID);
        check_asked(&world, &case, GATEWAY_ID);
    }
    assert_eq!(world.seen().len(), 4 + 8 + 5);
}

#[tokio::test]
async fn direct_invokes() {
    let world = World::start().await;
    for case in operation_form(|body| raw(body.to_owned())) {
        let body = world.front_door.answer(&case.event, LAMBDA_ID).await;
        assert_eq!(value(body.get()), case.answer, "{}", case.name);
        check_asked(&world, &case, LAMBDA_ID);
    }
}

#[tokio::test]
async fn the_authenticated_form_is_passed_through() {
    let world = World::start().await;
    let secret = CallerSecret::new(SECRET.to_owned().into()).unwrap();
    // Made by the caller, at another time than the front door's.
    let request =
        AuthenticatedRequest::new(KEY_ID.parse().unwrap(), &secret, NOW - 30, TRANSACTION);
    let body = format!(
        r#"{{"authenticated":{}}}"#,
        String::from_utf8(request.to_json()).unwrap()
    );
    for (resource, body) in [
        ("/sign_transaction", body.clone()),
        ("/", operation_body("sign_transaction", &body)),
        ("/key/{key_id}/tx_signature", body),
    ] {
        let answer = Answer::read(
            &world
                .front_door
                .answer(&gateway("POST", resource, Some(&body)), LAMBDA_ID)
                .await,
        );
        assert_eq!(answer.status, 200, "{}", answer.body);
        let seen = world.seen();
        assert_eq!(
            AuthenticatedRequest::parse(seen.last().unwrap().body.as_bytes()).unwrap(),
            request
        );
    }
}

#[tokio::test]
async fn base64_bodies_and_catch_all_resources_are_read() {
    use base64::Engine as _;

    let world = World::start().await;
    let encoded = base64::engine::general_purpose::STANDARD.encode(generate_body());
    let event = gateway_with(
        "POST",
        "/generate_key",
        &json!({ "body": encoded, "isBase64Encoded": true }),
    );
    assert_eq!(
        Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await).body,
        value(KEY)
    );
    assert_eq!(world.seen()[0].body, generate_body());

    let proxy = json!({ "pathParameters": { "proxy": format!("key/{KEY_ID}/userop_signature") },
        "body": sign_body_without_key_id(USER_OP) });
    let event = gateway_with("POST", "/{proxy+}", &proxy);
    assert_eq!(
        Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await).body,
        wrapped(value(SIGNATURE))
    );
}

#[tokio::test]
async fn the_version_is_answered_without_a_pod_to_get_and_head() {
    let world = World::start().await;
    for method in ["GET", "HEAD"] {
        let event = gateway(method, "/version", None);
        let answer = Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await);
        assert_eq!(answer.status, 200, "{method}");
        assert_eq!(
            answer.body,
            json!({ "service": "front-door", "version": env!("CARGO_PKG_VERSION") })
        );
    }
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn health_asks_both_services() {
    let world = World::start().await;
    let event = gateway("GET", "/health", None);
    let answer = Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let ready = json!({ "ready": true, "version": "1.2.3" });
    assert_eq!(
        answer.body,
        json!({ "signer": ready, "key_generator": ready })
    );
    let seen = world.seen();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.iter().all(
            |seen| (seen.path.as_str(), seen.request_id.as_str()) == ("/v1/health", GATEWAY_ID)
        )
    );
}

#[tokio::test]
async fn a_service_that_is_not_ready_makes_health_an_error() {
    let world = World::start().await;
    world.refuse_with(&Rejection::new(
        Code::StorageUnavailable,
        "the table cannot be reached",
    ));
    let event = gateway("GET", "/health", None);
    let answer = Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await);
    let problem = json!({ "ready": false, "code": "storage_unavailable", "error": "the table cannot be reached" });
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(
        answer.body,
        json!({
            "enclave_status": 503,
            "enclave_result": {
                "error": "signer: the table cannot be reached", "code": "storage_unavailable", "retryable": true,
            },
            "request_id": GATEWAY_ID,
            "health": { "signer": problem, "key_generator": problem },
        })
    );

    world.answer_with(
        200,
        HEALTH.replace(r#""state":"ready""#, r#""state":"adopted""#),
    );
    let answer = Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await);
    assert_eq!(
        (answer.status, &answer.body["health"]["signer"]["code"]),
        (503, &json!("not_ready"))
    );
    world.answer_with(200, KEY);
    let answer = Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await);
    assert_eq!(
        (answer.status, &answer.body["health"]["signer"]["code"]),
        (502, &json!("protocol_violation"))
    );
}

#[tokio::test]
async fn a_valid_request_id_of_the_caller_reaches_the_pod_and_the_answer() {
    let world = World::start().await;
    for (id, expected) in [
        ("caller-1/2", "caller-1/2"),
        ("not\none", GATEWAY_ID),
        ("", GATEWAY_ID),
    ] {
        let event = gateway_with(
            "POST",
            "/generate_key",
            &json!({ "headers": { "X-Request-Id": id }, "body": generate_body() }),
        );
        let answer = Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await);
        assert_eq!(answer.headers["x-request-id"], expected);
        assert_eq!(world.seen().last().unwrap().request_id, expected);
    }
}

/// They would show callers the state of caches, and the time that arithmetic with secrets takes.
#[tokio::test]
async fn times_of_the_pod_are_not_passed_on() {
    let world = World::start().await;
    let event = gateway("POST", "/generate_key", Some(&generate_body()));
    let answer = Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await);
    let mut names: Vec<_> = answer.headers.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["cache-control", "content-type", "x-request-id"]);
}

#[tokio::test]
async fn post_key_with_eth_key_imports_it() {
    let world = World::start().await;
    let answer = Answer::read(
        &world
            .front_door
            .answer(&gateway("POST", "/key", Some(&set_body())), LAMBDA_ID)
            .await,
    );
    assert_eq!((answer.status, answer.body), (200, wrapped(value(KEY))));
    let seen = world.seen();
    assert_eq!(
        (seen[0].path.as_str(), &seen[0].body),
        ("/v1/set_key", &set_body())
    );
}
