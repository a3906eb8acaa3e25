//! Requests that are not the front door's.

use std::io::{Read as _, Write as _};
use std::sync::atomic::Ordering;
use std::time::Duration;

use cloister_pods::{KeyGenerator, Signer};
use cloister_protocol::FrontDoorKey;
use cloister_protocol::front_door::{HEADER, RequestHead};
use reqwest::RequestBuilder;

use crate::enclave::Enclave;
use crate::forwarding::key_generator;
use crate::load::{client_config, connect};
use crate::pod::{KEY, NAME, Pod, eventually, now, refusal, signed, signed_with};
use crate::rows::Rows;

const CREATE: &str = "/v1/generate_key";
const OTHER: &str = "00112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f";

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

/// The request with the MAC of another one.
fn with_mac_of(request: RequestBuilder, other: RequestBuilder) -> RequestBuilder {
    let other = signed(other).build().unwrap();
    request.header(HEADER, other.headers()[HEADER].clone())
}

#[tokio::test]
async fn only_the_front_doors_requests_reach_the_enclave() {
    let (_directory, enclave, pod) = key_generator().await;
    let create = || pod.unsigned(CREATE, "{}");
    let get = |path: &str| pod.client.get(format!("https://{NAME}{path}"));
    let id = |request: RequestBuilder| request.header("x-request-id", "one");
    let good = signed(create()).build().unwrap().headers()[HEADER].clone();
    for (name, request) in [
        ("no header", create()),
        ("another key", signed_with(create(), OTHER, 0)),
        ("stale", signed_with(create(), KEY, -310)),
        ("of the future", signed_with(create(), KEY, 310)),
        (
            "another path",
            with_mac_of(create(), pod.unsigned("/v1/set_key", "{}")),
        ),
        (
            "another query",
            with_mac_of(pod.unsigned("/v1/generate_key?x", "{}"), create()),
        ),
        (
            "another method",
            with_mac_of(create(), get(CREATE).body("{}")),
        ),
        (
            "another length",
            with_mac_of(create(), pod.unsigned(CREATE, "{ }")),
        ),
        ("another request id", with_mac_of(id(create()), create())),
        ("two request ids", id(signed(id(create())))),
        ("two headers", signed(create()).header(HEADER, good)),
        ("malformed", create().header(HEADER, "1.1790000000")),
        ("health", get("/v1/health")),
        ("an unknown route", get("/")),
        ("a wrong method", get(CREATE)),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401, "{name}");
        assert!(response.headers().contains_key("www-authenticate"));
        let body = response.text().await.unwrap();
        assert!(!body.contains("mac") && !body.contains("window"), "{body}");
    }
    for (ahead, request) in [(-290, create()), (290, create()), (0, create())] {
        assert_eq!(
            status(signed_with(request, KEY, ahead)).await,
            200,
            "{ahead}"
        );
    }
    assert_eq!(enclave.mind.begun.load(Ordering::SeqCst), 3);
}

/// A signature's MAC is worth nothing for another key.
#[tokio::test]
async fn a_mac_is_for_one_path() {
    let directory = tempfile::tempdir().unwrap();
    let _enclave = Enclave::start(directory.path(), "signer").await;
    let rows = Rows::with_canary();
    let pod = Pod::start(&directory, Signer::new(rows.clone())).await;
    pod.becomes(true).await;
    let [one, two] = [1, 2].map(|number| {
        rows.insert(
            format!("00000000-0000-4000-8000-00000000001{number}")
                .parse()
                .unwrap(),
        )
    });
    let sign = |row: &cloister_protocol::SealedRow| {
        pod.unsigned(&format!("/v1/sign_transaction/{}", row.key_id), "{}")
    };
    rows.reads();
    assert_eq!(status(with_mac_of(sign(&two), sign(&one))).await, 401);
    assert!(rows.reads().is_empty());
    assert_eq!(status(signed(sign(&two))).await, 200);
}

/// The response comes while not a byte of the body has been sent, and the connection ends.
#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_stranger_is_not_read() {
    let (directory, enclave, pod) = key_generator().await;
    let tls = client_config(directory.path());
    let address = pod.addresses.https;
    let mac = |key, content_length| {
        let head = RequestHead {
            request_id: b"",
            method: "POST",
            target: CREATE,
            content_length,
        };
        head.sign(&FrontDoorKey::from_hex(key).unwrap(), now())
    };
    let length = "content-length: 1048576";
    for headers in [
        length.to_owned(),
        format!("{length}\r\n{HEADER}: {}", mac(OTHER, 1 << 20)),
        format!("{length}\r\n{HEADER}: {}", mac(KEY, 0)),
        // A valid MAC does not help a body without a length.
        format!("transfer-encoding: chunked\r\n{HEADER}: {}", mac(KEY, 0)),
    ] {
        let tls = tls.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let mut connection = connect(&tls, address);
            let head = format!("POST {CREATE} HTTP/1.1\r\nhost: {NAME}\r\n{headers}\r\n\r\n");
            connection.write_all(head.as_bytes()).unwrap();
            // Well below the time that a pod gives a body to arrive.
            let patience = Some(Duration::from_secs(3));
            connection.sock.set_read_timeout(patience).unwrap();
            let mut answer = String::new();
            connection.read_to_string(&mut answer).unwrap();
            answer
        })
        .await
        .unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(enclave.mind.begun.load(Ordering::SeqCst), 0);
}

/// A pod whose memory for bodies is taken refuses strangers all the same, and not as busy.
#[tokio::test]
async fn strangers_are_refused_before_any_budget() {
    let directory = tempfile::tempdir().unwrap();
    let enclave = Enclave::start(directory.path(), "key-generator").await;
    let pod = Pod::start_configured(&directory, KeyGenerator, |config| {
        config.request_memory_mib = Some(4);
    })
    .await;
    pod.becomes(true).await;
    enclave.mind.close_gate();
    let body = " ".repeat(320 * 1024);
    let taken: Vec<_> = (0..13)
        .map(|_| tokio::spawn(pod.post("/v1/set_key", &body).send()))
        .collect();
    eventually(async || {
        let answer = refusal_or_none(pod.post("/v1/set_key", &body)).await;
        (answer == Some((503, "busy".to_owned()))).then_some(())
    })
    .await;
    assert_eq!(
        status(pod.unsigned("/v1/set_key", &body[..1000])).await,
        401
    );
    enclave.mind.open_gate();
    for request in taken {
        request.await.unwrap().unwrap();
    }
}

/// A request that waits at the gate is not an answer.
async fn refusal_or_none(request: RequestBuilder) -> Option<(u16, String)> {
    tokio::time::timeout(Duration::from_millis(500), refusal(request))
        .await
        .ok()
}

/// No request fails while the file gets a second key, the front door changes to it, and the first
/// one is dropped.
#[tokio::test]
async fn a_replaced_file_is_read_without_a_restart() {
    let (directory, _enclave, pod) = key_generator().await;
    let file = directory.path().join("front-door-key");
    let create = async |key| status(signed_with(pod.unsigned(CREATE, "{}"), key, 0)).await;
    assert_eq!((create(KEY).await, create(OTHER).await), (200, 401));
    std::fs::write(&file, format!("{OTHER}\n{KEY}\n")).unwrap();
    eventually(async || {
        assert_eq!(create(KEY).await, 200);
        (create(OTHER).await == 200).then_some(())
    })
    .await;
    std::fs::write(&file, "neither").unwrap();
    std::fs::write(&file, OTHER).unwrap();
    eventually(async || {
        assert_eq!(create(OTHER).await, 200);
        (create(KEY).await == 401).then_some(())
    })
    .await;
}
