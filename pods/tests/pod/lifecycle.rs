//! Readiness, configuration, loss and return of the enclave, shutdown.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider};
use cloister_pods::{KeyGenerator, Signer};
use cloister_protocol::message::State;
use cloister_protocol::{Code, KeyId, Operation, Rejection};

use crate::enclave::Enclave;
use crate::pod::{Pod, eventually, refusal};
use crate::rows::Rows;

const KEY: &str = "7e99e372-0eba-4001-8002-35e6a1478070";
const SIGN: &str = "/v1/sign_transaction/7e99e372-0eba-4001-8002-35e6a1478070";

fn rows() -> Rows {
    let rows = Rows::with_canary();
    rows.insert(KEY.parse().unwrap());
    rows
}

#[tokio::test]
async fn without_an_enclave_the_pod_lives_but_is_not_ready() {
    let directory = tempfile::tempdir().unwrap();
    let pod = Pod::start(&directory, Signer::new(rows())).await;
    assert_eq!(pod.health("/healthz").await, (200, "ok\n".to_owned()));
    let (status, body) = pod.health("/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("enclave_unavailable"), "{body}");
    let response = pod.post(SIGN, "{}").send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(
        response
            .text()
            .await
            .unwrap()
            .contains("enclave_unavailable")
    );
    let (status, version) = pod.health("/version").await;
    assert_eq!(status, 200);
    assert!(
        version.contains(env!("CARGO_PKG_VERSION")) && version.contains(r#""enclave":null"#),
        "{version}"
    );
}

#[tokio::test]
async fn the_enclave_may_start_later_and_restart() {
    let directory = tempfile::tempdir().unwrap();
    let pod = Pod::start(&directory, Signer::new(rows())).await;
    let mut enclave = Enclave::start(directory.path(), "signer").await;
    for _ in 0..3 {
        let said = pod.becomes(true).await;
        assert!(said.contains(&"ab".repeat(48)), "{said}");
        assert_eq!(
            *enclave.mind.configured.lock().unwrap(),
            ["AKIDFIRST"],
            "once per boot"
        );
        assert_eq!(pod.post(SIGN, "{}").send().await.unwrap().status(), 200);
        enclave.die().await;
        pod.becomes(false).await;
        assert_eq!(
            refusal(pod.post(SIGN, "{}")).await,
            (503, "enclave_unavailable".to_owned())
        );
        enclave = Enclave::start(directory.path(), "signer").await;
    }
}

#[tokio::test]
async fn the_enclave_proves_its_image_to_any_verifier() {
    let directory = tempfile::tempdir().unwrap();
    let pod = Pod::start(&directory, Signer::new(rows())).await;
    let enclave = Enclave::start(directory.path(), "signer").await;
    pod.becomes(true).await;
    let nonce = "0f".repeat(32);
    assert_eq!(
        pod.health(&format!("/attestation/{nonce}")).await,
        (200, r#"{"done":true}"#.to_owned())
    );
    let seen = enclave.mind.seen.lock().unwrap().pop().unwrap();
    assert_eq!(
        (seen.operation, seen.parts),
        (Operation::ProveBoot, vec![vec![0x0f; 32].into()])
    );
    let (status, body) = pod.health("/attestation/nonce").await;
    assert_eq!(status, 400);
    assert!(
        body.contains("invalid_field") && body.contains("nonce"),
        "{body}"
    );
}

#[tokio::test]
async fn an_unconfigured_enclave_is_configured_again() {
    let directory = tempfile::tempdir().unwrap();
    let enclave = Enclave::start(directory.path(), "signer").await;
    let pod = Pod::start(&directory, Signer::new(rows())).await;
    pod.becomes(true).await;
    *enclave.mind.state.lock().unwrap() = State::Unconfigured;
    assert_eq!(
        refusal(pod.post(SIGN, "{}")).await,
        (503, "not_ready".to_owned())
    );
    eventually(async || (enclave.mind.configured.lock().unwrap().len() == 2).then_some(())).await;
    pod.becomes(true).await;
    assert_eq!(pod.post(SIGN, "{}").send().await.unwrap().status(), 200);
}

/// New credentials at every call, which expire immediately.
#[derive(Debug, Default)]
struct Rotating(AtomicUsize);

impl ProvideCredentials for Rotating {
    fn provide_credentials<'a>(&'a self) -> provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let count = self.0.fetch_add(1, Ordering::SeqCst);
        let expiry = SystemTime::now();
        let credentials = Credentials::new(
            format!("AKID{count}"),
            "secret",
            Some("token".into()),
            Some(expiry),
            "test",
        );
        provider::future::ProvideCredentials::ready(Ok(credentials))
    }
}

#[tokio::test]
async fn credentials_are_pushed_again_before_they_expire() {
    let directory = tempfile::tempdir().unwrap();
    let enclave = Enclave::start(directory.path(), "key-generator").await;
    let credentials = SharedCredentialsProvider::new(Rotating::default());
    let _pod = Pod::start_with(&directory, KeyGenerator, credentials).await;
    eventually(async || (enclave.mind.configured.lock().unwrap().len() >= 2).then_some(())).await;
    assert_eq!(
        enclave.mind.configured.lock().unwrap()[..2],
        ["AKID0", "AKID1"]
    );
}

#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let error = provider::error::CredentialsError::not_loaded("a private message of AWS");
        provider::future::ProvideCredentials::ready(Err(error))
    }
}

#[tokio::test]
async fn the_reason_for_not_being_ready_is_reported() {
    let reason = async |pod: &Pod, part: &str| {
        eventually(async || {
            let (status, body) = pod.health("/readyz").await;
            (status == 503 && body.contains(part)).then_some(body)
        })
        .await
    };

    let directory = tempfile::tempdir().unwrap();
    let _enclave = Enclave::start(directory.path(), "signer").await;
    let pod = Pod::start_with(
        &directory,
        Signer::new(rows()),
        SharedCredentialsProvider::new(NoCredentials),
    )
    .await;
    let said = reason(&pod, "no AWS credentials").await;
    assert!(!said.contains("private"), "{said}");

    let directory = tempfile::tempdir().unwrap();
    let enclave = Enclave::start(directory.path(), "signer").await;
    *enclave.mind.refusal.lock().unwrap() = Some(Rejection::new(
        Code::KeyPolicyRefused,
        "statement Signer differs",
    ));
    let pod = Pod::start(&directory, Signer::new(rows())).await;
    reason(&pod, "key_policy_refused: statement Signer differs").await;
    *enclave.mind.refusal.lock().unwrap() = None;
    pod.becomes(true).await;

    let directory = tempfile::tempdir().unwrap();
    let _enclave = Enclave::start(directory.path(), "signer").await;
    let rows = Rows::default();
    let pod = Pod::start(&directory, Signer::new(rows.clone())).await;
    reason(&pod, "no canary row").await;
    rows.insert(KeyId::CANARY);
    pod.becomes(true).await;

    let directory = tempfile::tempdir().unwrap();
    let _enclave = Enclave::start(directory.path(), "key-generator").await;
    let pod = Pod::start(&directory, Signer::new(Rows::default())).await;
    reason(&pod, "the enclave is a key-generator").await;
}

#[tokio::test]
async fn requests_in_flight_at_shutdown_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let enclave = Enclave::start(directory.path(), "signer").await;
    let pod = Pod::start(&directory, Signer::new(rows())).await;
    pod.becomes(true).await;
    let mind = enclave.mind.clone();
    mind.close_gate();
    let request = pod.post(SIGN, "{}");
    let answer = tokio::spawn(async move { request.send().await.unwrap().status() });
    eventually(async || (mind.begun.load(Ordering::SeqCst) == 1).then_some(())).await;

    pod.shutdown.cancel();
    let said = pod.becomes(false).await;
    assert!(said.contains("shutting down"), "{said}");
    let newcomer = pod.client.clone();
    eventually(async || {
        // A new connection: the pool's is busy or closed.
        newcomer
            .post(format!("https://{}{SIGN}", crate::pod::NAME))
            .send()
            .await
            .is_err()
            .then_some(())
    })
    .await;
    assert!(!answer.is_finished());

    mind.open_gate();
    assert_eq!(answer.await.unwrap(), 200);
    pod.stop().await;
}
