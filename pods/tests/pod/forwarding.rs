//! Requests to a running enclave and their responses.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cloister_contract::Service;
use cloister_keystore::Consistency;
use cloister_pods::{KeyGenerator, Signer};
use cloister_protocol::limits::MAX_AUTHENTICATED_LEN;
use cloister_protocol::message::{HealthReport, State};
use cloister_protocol::{Code, KeyId, Operation, Rejection, SealedRow};
use tempfile::TempDir;

use crate::enclave::Enclave;
use crate::pod::{Pod, eventually, refusal, signed};
use crate::rows::{NOT_MIGRATED, Rows, THROTTLED};

const KEY: &str = "7e99e372-0eba-4001-8002-35e6a1478070";

async fn signer() -> (TempDir, Enclave, Rows, Pod) {
    let directory = tempfile::tempdir().unwrap();
    let enclave = Enclave::start(directory.path(), "signer").await;
    let rows = Rows::with_canary();
    let pod = Pod::start(&directory, Signer::new(rows.clone())).await;
    pod.becomes(true).await;
    (directory, enclave, rows, pod)
}

pub(crate) async fn key_generator() -> (TempDir, Enclave, Pod) {
    let directory = tempfile::tempdir().unwrap();
    let enclave = Enclave::start(directory.path(), "key-generator").await;
    let pod = Pod::start(&directory, KeyGenerator).await;
    pod.becomes(true).await;
    (directory, enclave, pod)
}

fn key() -> KeyId {
    KEY.parse().unwrap()
}

fn sign(key_id: &str) -> String {
    format!("/v1/sign_transaction/{key_id}")
}

#[tokio::test]
async fn a_signature_takes_the_callers_bytes_and_one_read() {
    let (_directory, enclave, rows, pod) = signer().await;
    let row = rows.insert(key());
    for body in [r#"{"payload": "unchanged"}"#, "\u{0}not JSON at all", ""] {
        let request = pod
            .unsigned(&sign(KEY), body)
            .header("x-request-id", "front-door-1");
        let response = signed(request).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(
            (
                header("x-request-id").as_str(),
                header("content-type").as_str()
            ),
            ("front-door-1", "application/json")
        );
        // Times would tell callers which keys others use.
        assert!(!response.headers().contains_key("server-timing"));
        assert_eq!(response.text().await.unwrap(), r#"{"done":true}"#);
        assert_eq!(rows.reads(), [Consistency::Eventual]);
        let seen = enclave.mind.seen.lock().unwrap().pop().unwrap();
        assert_eq!(
            (seen.operation, &seen.parts[0][..]),
            (Operation::SignTransaction, body.as_bytes())
        );
        assert_eq!(
            serde_json::from_slice::<SealedRow>(&seen.parts[1]).unwrap(),
            row
        );
    }
}

#[tokio::test]
async fn a_row_that_was_just_written_is_found() {
    let (_directory, _enclave, rows, pod) = signer().await;
    rows.insert_just_now(key());
    assert_eq!(
        pod.post(&sign(KEY), "{}").send().await.unwrap().status(),
        200
    );
    assert_eq!(rows.reads(), [Consistency::Eventual, Consistency::Strong]);
}

#[tokio::test]
async fn each_unusable_row_has_its_code() {
    let (_directory, enclave, _rows, pod) = signer().await;
    for (key_id, status, code) in [
        (KEY, 404, "key_not_found"),
        // Its row is the canary's, which the pod does not send to callers' requests.
        (&KeyId::CANARY.to_string(), 404, "key_not_found"),
        (NOT_MIGRATED, 409, "not_migrated"),
        (THROTTLED, 503, "storage_throttled"),
        ("7E99E372-0EBA-4001-8002-35E6A1478070", 400, "invalid_field"),
        ("%ff", 400, "invalid_field"),
    ] {
        assert_eq!(
            refusal(pod.post(&sign(key_id), "{}")).await,
            (status, code.to_owned()),
            "{key_id}"
        );
    }
    assert!(enclave.mind.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_enclaves_refusal_is_the_answer() {
    let (_directory, enclave, rows, pod) = signer().await;
    rows.insert(key());
    let rejection = Rejection::invalid("transaction_payload.value", "must not be negative");
    *enclave.mind.refusal.lock().unwrap() = Some(rejection.clone());
    let response = pod.post(&sign(KEY), "{}").send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(!response.headers().contains_key("retry-after"));
    assert_eq!(
        serde_json::from_str::<Rejection>(&response.text().await.unwrap()).unwrap(),
        rejection
    );

    *enclave.mind.refusal.lock().unwrap() = Some(Rejection::new(Code::Busy, "full"));
    let response = pod.post(&sign(KEY), "{}").send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let (_directory, enclave, rows, pod) = signer().await;
    rows.insert(key());
    let largest = "x".repeat(MAX_AUTHENTICATED_LEN);
    assert_eq!(
        pod.post(&sign(KEY), &largest)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    enclave.mind.seen.lock().unwrap().clear();
    let larger = largest + "x";
    assert_eq!(
        refusal(pod.post(&sign(KEY), &larger)).await,
        (413, "body_too_large".to_owned())
    );
    assert!(enclave.mind.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn other_routes_are_unknown() {
    let (_directory, _enclave, _rows, pod) = signer().await;
    for path in [
        "/",
        "/v1/generate_key",
        "/v1/sign_transaction",
        "/readyz",
        "/v2/sign_transaction/x",
    ] {
        assert_eq!(
            refusal(pod.post(path, "{}")).await,
            (404, "unknown_route".to_owned()),
            "{path}"
        );
    }
    let get = pod
        .client
        .get(format!("https://{}{}", crate::pod::NAME, sign(KEY)));
    assert_eq!(
        refusal(signed(get)).await,
        (404, "unknown_route".to_owned())
    );
}

#[tokio::test]
async fn invalid_request_ids_are_replaced() {
    let (_directory, _enclave, _rows, pod) = signer().await;
    for id in ["", "with space", &"x".repeat(129), "{}", "\"", "a\\b"] {
        let request = pod.unsigned("/", "").header("x-request-id", id);
        let response = signed(request).send().await.unwrap();
        assert_eq!(response.headers()["x-request-id"].len(), 36, "{id}");
    }
}

#[tokio::test]
async fn request_ids_of_the_front_door_are_kept() {
    let (_directory, _enclave, _rows, pod) = signer().await;
    for id in ["c6af9ac6-7b61-11e6-9a41-93e8deadbeef", "a+b/c=="] {
        let request = pod.unsigned("/", "").header("x-request-id", id);
        let response = signed(request).send().await.unwrap();
        assert_eq!(response.headers()["x-request-id"], id);
    }
}

#[tokio::test]
async fn the_front_door_may_ask_for_the_enclaves_health() {
    let (_directory, enclave, _rows, pod) = signer().await;
    let ask = || pod.service_health();
    let response = ask().send().await.unwrap();
    assert_eq!(response.status(), 200);
    let report: HealthReport = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(
        (report.service, report.state),
        (Service::Signer, State::Ready)
    );
    let post = pod.post("/v1/health", "");
    assert_eq!(refusal(post).await, (404, "unknown_route".to_owned()));
    enclave.die().await;
    pod.becomes(false).await;
    assert_eq!(
        refusal(ask()).await,
        (503, "enclave_unavailable".to_owned())
    );
}

/// A probe reads the table and opens the canary row again. Its result is kept for a second.
#[tokio::test]
async fn health_sees_what_the_signer_needs_besides_its_enclave() {
    let (_directory, _enclave, rows, pod) = signer().await;
    let ask = || pod.service_health();
    assert_eq!(ask().send().await.unwrap().status(), 200);
    rows.remove(KeyId::CANARY);
    eventually(async || (ask().send().await.unwrap().status() != 200).then_some(())).await;
    assert_eq!(refusal(ask()).await, (503, "not_ready".to_owned()));
    assert_eq!(pod.health("/readyz").await.0, 200);
}

#[tokio::test]
async fn the_key_generator_gets_the_callers_bytes() {
    let (_directory, enclave, pod) = key_generator().await;
    for (path, operation) in [
        ("/v1/generate_key", Operation::GenerateKey),
        ("/v1/set_key", Operation::SetKey),
    ] {
        let response = pod.post(path, r#"{"secret": "…"}"#).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), r#"{"done":true}"#);
        let seen = enclave.mind.seen.lock().unwrap().pop().unwrap();
        assert_eq!(
            (seen.operation, seen.parts),
            (operation, vec![r#"{"secret": "…"}"#.into()])
        );
    }
}

/// The enclave dies while it handles a request. Repeating is safe for signing only.
#[tokio::test]
async fn only_signing_is_repeated_on_a_dead_connection() {
    let (directory, enclave, rows, pod) = signer().await;
    rows.insert(key());
    let (status, successor) = die_under(&directory, enclave, pod.post(&sign(KEY), "{}")).await;
    assert_eq!(
        (status, successor.mind.begun.load(Ordering::SeqCst)),
        (200, 1)
    );

    let (directory, enclave, pod) = key_generator().await;
    let (status, successor) =
        die_under(&directory, enclave, pod.post("/v1/generate_key", "{}")).await;
    assert_eq!(
        (status, successor.mind.begun.load(Ordering::SeqCst)),
        (503, 0)
    );
}

/// Sends `request`, replaces the enclave once the request has reached it, and returns the answer's
/// status.
async fn die_under(
    directory: &TempDir,
    enclave: Enclave,
    request: reqwest::RequestBuilder,
) -> (u16, Enclave) {
    enclave.mind.close_gate();
    let answer = tokio::spawn(async move { request.send().await.unwrap().status().as_u16() });
    eventually(async || (enclave.mind.begun.load(Ordering::SeqCst) > 0).then_some(())).await;
    let successor = enclave.die_and_be_replaced(directory.path()).await;
    (answer.await.unwrap(), successor)
}

#[tokio::test]
async fn a_caller_that_hangs_up_causes_no_second_probe() {
    let (_directory, enclave, _rows, pod) = signer().await;
    let mind = &enclave.mind;
    let ask = || pod.service_health();
    let probes = || mind.canaries.load(Ordering::SeqCst);
    let before = probes();
    mind.close_gate();
    for _ in 0..5 {
        let hung_up = ask().timeout(Duration::from_millis(50)).send().await;
        assert!(hung_up.unwrap_err().is_timeout());
    }
    eventually(async || (probes() > before).then_some(())).await;
    mind.open_gate();
    assert_eq!(ask().send().await.unwrap().status(), 200);
    assert_eq!(probes(), before + 1);
}
