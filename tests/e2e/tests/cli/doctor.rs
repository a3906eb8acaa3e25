//! `cloister doctor`: every check succeeds on a running stack, and each fault is found.

use std::net::SocketAddr;

use axum::Router;
use axum::http::header::DATE;
use axum::routing::get;
use cloister_e2e::{Local, eventually, random_secret};
use cloister_local::part::Part;
use serde_json::Value;

use crate::account::Account;
use crate::program::Shell;

/// The state of each check, and the exit code.
async fn ask(shell: &Shell, more: &[&str]) -> (i32, Vec<Value>) {
    let ended = shell.run(&[&["doctor", "--json"], more].concat()).await;
    let findings = ended.json().as_array().unwrap().clone();
    (ended.code, findings)
}

fn state<'a>(findings: &'a [Value], check: &str) -> &'a Value {
    findings
        .iter()
        .find(|finding| finding["check"] == check)
        .unwrap_or_else(|| panic!("no {check}: {findings:?}"))
}

/// Exactly this check fails, with something to do about it.
async fn fails(shell: &Shell, more: &[&str], check: &str, finding: &str) {
    let (code, findings) = ask(shell, more).await;
    let failed: Vec<_> = findings
        .iter()
        .filter(|finding| finding["state"] == "failed")
        .collect();
    assert_eq!((code, failed.len()), (3, 1), "{check}: {findings:#?}");
    assert_eq!(failed[0]["check"], check, "{findings:#?}");
    assert!(
        failed[0]["finding"].as_str().unwrap().contains(finding),
        "{finding}: {findings:#?}"
    );
    assert!(
        failed[0]["fix"].as_str().is_some_and(|fix| !fix.is_empty()),
        "{findings:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_what_is_wrong_and_what_to_do() {
    let local = Local::start().await;
    let shell = Shell::of_a_caller(&local);

    let (code, findings) = ask(&shell, &[]).await;
    assert_eq!(code, 0, "{findings:#?}");
    for check in [
        "credentials",
        "region",
        "endpoint",
        "DNS",
        "TCP",
        "clock",
        "signature",
        "front door",
        "signer",
        "key generator",
    ] {
        assert_eq!(state(&findings, check)["state"], "ok", "{findings:#?}");
    }
    let human = shell.run(&["doctor"]).await;
    assert!(
        human.code == 0 && human.out.starts_with("ok  credentials"),
        "{human:?}"
    );

    let mut nobody = Shell::of_a_caller(&local);
    nobody.unset("AWS_ACCESS_KEY_ID");
    fails(&nobody, &[], "credentials", "no AWS credentials").await;
    let mut nowhere = Shell::of_a_caller(&local);
    nowhere.unset("AWS_REGION");
    fails(&nowhere, &[], "region", "none").await;
    fails(
        &shell,
        &["--endpoint", "wallet.example/prod"],
        "endpoint",
        "not an http or https URL",
    )
    .await;
    fails(
        &shell,
        &["--endpoint", "https://wallet.invalid"],
        "DNS",
        "wallet.invalid",
    )
    .await;
    fails(
        &shell,
        &["--endpoint", "http://127.0.0.1:1"],
        "TCP",
        "port 1",
    )
    .await;
    fails(
        &shell.with("AWS_SECRET_ACCESS_KEY", &random_secret()),
        &[],
        "signature",
        "does not match",
    )
    .await;
    fails(
        &shell.with("AWS_SESSION_TOKEN", "another"),
        &[],
        "signature",
        "security token",
    )
    .await;
    fails(
        &shell.with("AWS_ACCESS_KEY_ID", "ASIANOBODY"),
        &[],
        "signature",
        "security token",
    )
    .await;
    fails(
        &shell,
        &["--region", "eu-west-1"],
        "signature",
        "valid region",
    )
    .await;

    // A certificate of a root that is not trusted here, then trusted; behind it is no API Gateway.
    let pod = local.stack.https(Part::SignerPod).unwrap();
    fails(&shell, &["--endpoint", &pod], "TLS", "certificate").await;
    let root = local.stack.data().path("root.pem");
    std::fs::write(&root, local.stack.root_certificate()).unwrap();
    let root = root.to_str().unwrap();
    let (code, findings) = ask(&shell, &["--endpoint", &pod, "--ca-file", root]).await;
    assert_eq!(
        (code, &state(&findings, "TLS")["state"]),
        (3, &Value::from("ok")),
        "{findings:#?}"
    );
    assert_eq!(
        state(&findings, "front door")["state"],
        "failed",
        "{findings:#?}"
    );
    let no_roots = shell.run(&["doctor", "--ca-file", "/dev/null"]).await;
    assert!(
        no_roots.code == 2 && no_roots.err.contains("no certificate"),
        "{no_roots:?}"
    );

    // A pod's own word, by the address that serves it.
    let health = local
        .stack
        .address(Part::SignerPod)
        .unwrap()
        .health
        .unwrap();
    let (code, findings) = ask(&shell, &["--pod", &format!("http://{health}")]).await;
    assert_eq!(code, 0, "{findings:#?}");
    assert!(
        state(&findings, "pod")["finding"]
            .as_str()
            .unwrap()
            .contains("\"version\""),
        "{findings:#?}"
    );
    // The pod's HTTPS port, whose certificate comes from a private root; it serves the front door
    // alone.
    let (code, findings) = ask(&shell, &["--pod", &pod, "--ca-file", root]).await;
    let finding = state(&findings, "pod")["finding"].as_str().unwrap();
    assert!(
        code == 3 && finding.contains("status 401"),
        "the CA was not used: {findings:#?}"
    );
    fails(&shell, &["--pod", &pod], "pod", "certificate").await;
    fails(
        &shell,
        &["--pod", "http://127.0.0.1:1"],
        "pod",
        "127.0.0.1:1",
    )
    .await;

    let version = get(|| async {
        let body = r#"{"service":"front-door","version":"0.0.1"}"#;
        ([(DATE, "Sun, 06 Nov 1994 08:49:37 GMT")], body)
    });
    let health = get(|| async { r#"{"signer":{"ready":true},"key_generator":{"ready":true}}"# });
    let late = serve(
        Router::new()
            .route("/version", version)
            .route("/health", health),
    );
    fails(
        &shell,
        &["--endpoint", &format!("http://{}", late.await)],
        "clock",
        "ahead",
    )
    .await;
    let broken = serve(Router::new().route("/version", get(|| async { "<html>" }))).await;
    fails(
        &shell,
        &["--endpoint", &format!("http://{broken}")],
        "front door",
        "unknown response",
    )
    .await;
}

/// With each part that a request needs stopped, one check fails and names its code.
#[tokio::test(flavor = "multi_thread")]
async fn finds_each_part_that_is_stopped() {
    let mut local = Local::start().await;
    let shell = Shell::of_a_caller(&local);
    for (part, check, code) in [
        (Part::SignerPod, "signer", "enclave_unavailable"),
        (Part::SignerEnclave, "signer", "enclave_unavailable"),
        (
            Part::KeyGeneratorPod,
            "key generator",
            "enclave_unavailable",
        ),
        (
            Part::KeyGeneratorEnclave,
            "key generator",
            "enclave_unavailable",
        ),
        (Part::Table, "signer", "storage_unavailable"),
        (Part::Kms, "signer", "kms_unavailable"),
    ] {
        local.stack.stop(part).unwrap();
        // Pods repeat a result for up to a second.
        eventually(&format!("the end of {part} is found"), async || {
            let (exit, findings) = ask(&shell, &[]).await;
            let finding = state(&findings, check);
            let text = finding["finding"].as_str().unwrap();
            exit == 3 && finding["state"] == "failed" && text.contains(code)
        })
        .await;
        local.stack.resume(part).await.unwrap();
        eventually(&format!("{part} is ready again"), async || {
            ask(&shell, &[]).await.0 == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identifies_the_credentials() {
    let local = Local::start().await;
    let account = Account::start(&local).await;
    let shell = Shell::of_a_caller(&local).with("AWS_ENDPOINT_URL_STS", account.url());
    let (code, findings) = ask(&shell, &[]).await;
    assert_eq!(code, 0, "{findings:#?}");
    assert!(
        state(&findings, "identity")["finding"]
            .as_str()
            .unwrap()
            .contains(":assumed-role/"),
        "{findings:#?}"
    );

    account.forget_everybody();
    fails(&shell, &[], "identity", "InvalidClientTokenId").await;
    let (code, findings) = ask(
        &shell.with("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1"),
        &[],
    )
    .await;
    assert_eq!(
        (code, &state(&findings, "identity")["state"]),
        (0, &Value::from("not_checked")),
        "{findings:#?}"
    );
}

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
