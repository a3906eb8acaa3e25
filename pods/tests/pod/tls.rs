//! The TLS guarantees for callers: name, CA, version, and isolation from slow peers.

use std::time::{Duration, Instant};

use cloister_contract::ErrorChain;
use cloister_pods::KeyGenerator;
use reqwest::tls::Version;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::enclave::Enclave;
use crate::pod::{NAME, Pod, caller, config, keys, static_credentials};

#[tokio::test]
async fn a_wrong_name_a_foreign_ca_and_an_old_version_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let pod = Pod::start(&directory, KeyGenerator).await;
    let ask = async |client: reqwest::Client, name: &str| {
        client.get(format!("https://{name}/")).send().await
    };

    let good = caller(directory.path(), &pod.addresses).build().unwrap();
    // Answered, though not to the front door.
    assert_eq!(ask(good, NAME).await.unwrap().status(), 401);

    let other = "other.cloister.test";
    let misled = caller(directory.path(), &pod.addresses)
        .resolve(other, pod.addresses.https)
        .build()
        .unwrap();
    assert!(ask(misled, other).await.is_err());

    let foreign = tempfile::tempdir().unwrap();
    config(foreign.path());
    let stranger = caller(foreign.path(), &pod.addresses).build().unwrap();
    assert!(ask(stranger, NAME).await.is_err());

    let old = caller(directory.path(), &pod.addresses)
        .tls_version_max(Version::TLS_1_2)
        .build()
        .unwrap();
    assert!(ask(old, NAME).await.is_err());
}

#[tokio::test]
async fn a_silent_peer_delays_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let _enclave = Enclave::start(directory.path(), "key-generator").await;
    let pod = Pod::start(&directory, KeyGenerator).await;
    pod.becomes(true).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(pod.addresses.https).await.unwrap());
    }
    assert_eq!(
        pod.post("/v1/generate_key", "{}")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let pod = Pod::start(&directory, KeyGenerator).await;
    let answers = async || {
        let client = caller(directory.path(), &pod.addresses).build().unwrap();
        client.get(format!("https://{NAME}/")).send().await.is_ok()
    };
    assert!(answers().await);
    // The new certificate is of a new CA, the only one that the caller trusts from here on.
    config(directory.path());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !answers().await {
        assert!(Instant::now() < deadline, "the certificate was not renewed");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn unusable_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let good = config(directory.path());
    let garbage = directory.path().join("garbage.pem");
    std::fs::write(&garbage, "no PEM here").unwrap();
    let missing = directory.path().join("missing.pem");
    let foreign = tempfile::tempdir().unwrap();
    let foreign_key = config(foreign.path()).tls_key;
    for (cert, key, part) in [
        (
            &garbage,
            &good.tls_key,
            "garbage.pem does not contain certificates",
        ),
        (
            &good.tls_cert,
            &garbage,
            "garbage.pem does not contain a private key",
        ),
        (&missing, &good.tls_key, "failed to read"),
        (&good.tls_cert, &foreign_key, "the certificate is unusable"),
    ] {
        let config = cloister_pods::Config {
            tls_cert: cert.clone(),
            tls_key: key.clone(),
            ..good.clone()
        };
        let keys = keys(&config);
        let refused =
            cloister_pods::Pod::new(config, KeyGenerator, static_credentials(), keys).unwrap_err();
        let chain = ErrorChain(&refused).to_string();
        assert!(chain.contains(part), "{chain}");
    }
}
