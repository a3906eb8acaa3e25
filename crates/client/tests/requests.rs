//! The client's requests, as a server on loopback receives them. Tests with the gateway verify the
//! signatures.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use cloister_client::{Client, ClientError, Credentials, is_loopback};
use cloister_protocol::request::{AuthenticatedRequest, GenerateKey, SetKey, SignRequest};
use cloister_protocol::{CallerSecret, KeyId, PrivateKey};

const SECRET: &str = "9779d2b8f0bc495b1691ce1a2baf8004";
const ETH_KEY: &str = "0035311872e1c63b50a8edd16605e2253c2a9c58ef9bf41f1d1c0c724981931a";
const KEY_ID: &str = "7e99e372-0eba-4001-8002-35e6a1478070";
const TOKEN: &str = "the-session-token-of-temporary-credentials";

type Seen = Arc<Mutex<Vec<(Method, Uri, HeaderMap, String)>>>;

/// A server that records its requests and answers each with `answer`.
async fn server(answer: &'static str) -> (Client, Seen) {
    let seen = Seen::default();
    let app = Router::new()
        .fallback(
            move |State(seen): State<Seen>,
                  method: Method,
                  uri: Uri,
                  headers: HeaderMap,
                  body: String| async move {
                seen.lock().unwrap().push((method, uri, headers, body));
                answer
            },
        )
        .with_state(seen.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/prod/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let credentials = Credentials::new(
        "AKIDEXAMPLE",
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        Some(TOKEN),
    );
    (
        Client::new(&endpoint, "eu-central-1", credentials, None).unwrap(),
        seen,
    )
}

fn secret() -> CallerSecret {
    CallerSecret::new(SECRET.to_owned().into()).unwrap()
}

#[tokio::test]
async fn key_operations_send_what_the_protocol_reads() {
    let (client, seen) =
        server(r#"{"key_id":"7e99e372-0eba-4001-8002-35e6a1478070","address":"0xe06C2c216fC36E2d40fB0199623032CC17b3B41b","new":1}"#)
            .await;
    let created = client.generate_key(&secret()).await.unwrap();
    assert_eq!(created.key_id.to_string(), KEY_ID);
    client
        .set_key(&secret(), &PrivateKey::from_hex(ETH_KEY).unwrap())
        .await
        .unwrap();

    let seen = seen.lock().unwrap();
    let paths: Vec<_> = seen
        .iter()
        .map(|(method, uri, ..)| (method.as_str(), uri.path()))
        .collect();
    assert_eq!(
        paths,
        [("POST", "/prod/generate_key"), ("POST", "/prod/set_key")]
    );
    assert_eq!(
        GenerateKey::parse(seen[0].3.as_bytes())
            .unwrap()
            .secret
            .expose(),
        SECRET
    );
    // Leading zeros stay.
    assert_eq!(
        const_hex::encode(
            SetKey::parse(seen[1].3.as_bytes())
                .unwrap()
                .eth_key
                .expose()
        ),
        ETH_KEY
    );
}

#[tokio::test]
async fn requests_are_signed_for_execute_api_with_the_session_token() {
    let (client, seen) = server("{}").await;
    client.post("/generate_key", "{}").await.unwrap();
    client.get("/version").await.unwrap();
    client.invoke("front-door", "{}").await.unwrap();
    client
        .send(client.request(Method::GET, "/version", "").unwrap())
        .await
        .unwrap();

    let seen = seen.lock().unwrap();
    let header = |index: usize, name: &str| {
        seen[index]
            .2
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    for (index, service) in ["execute-api", "execute-api", "lambda"]
        .into_iter()
        .enumerate()
    {
        let authorization = header(index, "authorization").unwrap();
        assert!(
            authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
            "{authorization}"
        );
        assert!(
            authorization.contains(&format!("/eu-central-1/{service}/aws4_request, ")),
            "{authorization}"
        );
        for signed in [
            "host",
            "x-amz-date",
            "x-amz-security-token",
            "x-amz-content-sha256",
        ] {
            assert!(authorization.contains(signed), "{authorization}");
        }
        assert_eq!(
            header(index, "x-amz-security-token").as_deref(),
            Some(TOKEN)
        );
    }
    assert_eq!(
        seen[2].1.path(),
        "/prod/2015-03-31/functions/front-door/invocations"
    );
    assert_eq!(header(3, "authorization"), None);
}

#[tokio::test]
async fn payloads_travel_as_their_exact_text() {
    let payload = r#"{ "value": 0.10, "type":2, "chainId": 4, "nonce": 0, "gas": 21000, "maxFeePerGas": 100000000000,
        "maxPriorityFeePerGas": 3000000000, "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf" }"#;
    let hash = "0x74b4789b79b019b62a535b9fbacf6b3161ca6d2deffe36565c2814520e97fdd3";
    let (client, seen) =
        server(r#"{"transaction_signed":"0x02","transaction_hash":"0x74b4789b79b019b62a535b9fbacf6b3161ca6d2deffe36565c2814520e97fdd3"}"#)
            .await;
    let key_id: KeyId = KEY_ID.parse().unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let signed = client
        .sign_transaction(key_id, &secret(), payload)
        .await
        .unwrap();
    assert_eq!(
        (
            signed.transaction_signed.as_str(),
            signed.transaction_hash.to_string().as_str()
        ),
        ("0x02", hash)
    );
    client
        .sign_transaction_authenticated(key_id, &secret(), payload, now)
        .await
        .unwrap();
    assert!(matches!(
        client.sign_transaction(key_id, &secret(), "{").await,
        Err(ClientError::Payload(_))
    ));

    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    match SignRequest::parse(seen[0].3.as_bytes()).unwrap() {
        SignRequest::Plain {
            key_id: Some(sent),
            payload: text,
            ..
        } => assert_eq!((sent, text.text()), (key_id, payload)),
        other => panic!("{other:?}"),
    }
    assert!(!seen[1].3.contains(SECRET));
    match SignRequest::parse(seen[1].3.as_bytes()).unwrap() {
        SignRequest::Authenticated(sent, _) => {
            assert_eq!(
                sent,
                AuthenticatedRequest::new(key_id, &secret(), 1_700_000_000, payload)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn user_op_hashes_come_back_as_one_signature() {
    let (client, _seen) = server(r#"{"signature":"0x01"}"#).await;
    let signature = client
        .sign_user_op(KEY_ID.parse().unwrap(), &secret(), [7; 32].into())
        .await
        .unwrap();
    assert_eq!(signature, "0x01");
}

#[test]
fn nothing_secret_is_shown() {
    let credentials = Credentials::new("AKIDEXAMPLE", "the-secret-access-key", Some(TOKEN));
    let client = Client::new("https://api.example", "eu-central-1", credentials, None).unwrap();
    let shown = format!("{client:?}");
    assert!(
        !shown.contains("the-secret-access-key") && !shown.contains(TOKEN),
        "{shown}"
    );
}

#[test]
fn endpoints_and_roots_are_checked() {
    let client = |endpoint, ca: Option<&[u8]>| {
        Client::new(
            endpoint,
            "eu-central-1",
            Credentials::new("a", "b", None),
            ca,
        )
        .map(|_| ())
    };
    assert!(matches!(
        client("not a url", None),
        Err(ClientError::Endpoint(_))
    ));
    assert!(matches!(
        client("/path", None),
        Err(ClientError::EndpointWithoutHost)
    ));
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(
        client("https://api.example", Some(broken)),
        Err(ClientError::Setup(_))
    ));
}

#[tokio::test]
async fn the_health_of_both_services_is_read_from_a_success_and_from_an_error() {
    let (client, seen) = server(
        r#"{"signer":{"ready":true,"version":"1.2.3"},"key_generator":{"ready":true,"later":1}}"#,
    )
    .await;
    let health = client.health().await.unwrap();
    assert!(health.signer.ready && health.key_generator.ready);
    assert_eq!(health.signer.version.as_deref(), Some("1.2.3"));
    {
        let seen = seen.lock().unwrap();
        assert_eq!(
            (seen[0].0.as_str(), seen[0].1.path()),
            ("GET", "/prod/health")
        );
    }

    let (client, _seen) = server(
        r#"{"enclave_status":503,"enclave_result":{"error":"signer: no table","code":"storage_unavailable","retryable":true},
            "request_id":"r","health":{"signer":{"ready":false,"code":"storage_unavailable","error":"no table"},
            "key_generator":{"ready":true,"version":"1.2.3"}}}"#,
    )
    .await;
    let health = client.health().await.unwrap();
    assert!(!health.signer.ready && health.key_generator.ready);
    assert_eq!(health.signer.code.as_deref(), Some("storage_unavailable"));

    let (client, _seen) = server(r#"{"message":"Missing Authentication Token"}"#).await;
    assert!(matches!(
        client.health().await,
        Err(ClientError::Gateway { .. })
    ));
}

#[test]
fn loopback_hosts() {
    for (url, expected) in [
        ("http://127.0.0.1:8080/prod", true),
        ("https://localhost", true),
        ("http://[::1]:1", true),
        ("https://localhost.example", false),
        ("https://10.0.0.1", false),
    ] {
        assert_eq!(is_loopback(&url.parse().unwrap()), expected, "{url}");
    }
}
