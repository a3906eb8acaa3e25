//! The connection to the pods: trust, retries, and the answers for broken pods.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cloister_lambdas::{FrontDoor, Pods};
use cloister_protocol::Code;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::event::{Answer, LAMBDA_ID, SECRET, TRANSACTION, gateway, sign_body};
use crate::pod::{KEY, NOW, Pki, SIGNATURE, SIGNED, World, clock, settings};

fn generate() -> Box<serde_json::value::RawValue> {
    gateway(
        "POST",
        "/generate_key",
        Some(&format!(r#"{{"secret":"{SECRET}"}}"#)),
    )
}

fn sign() -> Box<serde_json::value::RawValue> {
    gateway("POST", "/sign_transaction", Some(&sign_body(TRANSACTION)))
}

fn code(answer: &Answer) -> Option<&str> {
    answer.body["enclave_result"]["code"].as_str()
}

/// A pod that lets `die` requests die before an answer, and then answers.
struct Flaky {
    front_door: FrontDoor,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    _directory: TempDir,
}

#[derive(Clone, Copy)]
enum Manner {
    /// Closes the connection.
    Close,
    /// Never answers.
    Hang,
    /// Sends half an answer.
    Half,
}

impl Flaky {
    async fn start(die: usize, manner: Manner, answer: &'static str) -> Self {
        let pki = Pki::generate();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (settings, directory) = settings(listener.local_addr().unwrap().port(), &pki.pem());
        let acceptor = TlsAcceptor::from(pki.server("localhost"));
        let (requests, connections) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (seen, accepted) = (requests.clone(), connections.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, seen) = (acceptor.clone(), seen.clone());
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.unwrap();
                    while read_request(&mut stream).await.is_some() {
                        let number = seen.fetch_add(1, Ordering::SeqCst);
                        let head = format!(
                            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                            answer.len()
                        );
                        match manner {
                            Manner::Close if number < die => return,
                            Manner::Hang if number < die => std::future::pending().await,
                            Manner::Half if number < die => {
                                stream.write_all(head.as_bytes()).await.unwrap();
                                stream.flush().await.unwrap();
                                return;
                            }
                            _ => {}
                        }
                        stream
                            .write_all(format!("{head}{answer}").as_bytes())
                            .await
                            .unwrap();
                        stream.flush().await.unwrap();
                    }
                });
            }
        });
        let front_door = FrontDoor::new(Pods::new(&settings).unwrap(), clock);
        Self {
            front_door,
            requests,
            connections,
            _directory: directory,
        }
    }
}

/// Reads one request with its body; `None` at the end of the connection.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<()> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream
            .read(&mut buffer)
            .await
            .ok()
            .filter(|length| *length > 0)?;
        text.extend_from_slice(&buffer[..length]);
        let request = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = request.split_once("\r\n\r\n") {
            let length = head
                .to_lowercase()
                .split_once("content-length: ")
                .map(|(_, rest)| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
            if body.len() >= length.unwrap_or(0) {
                return Some(());
            }
        }
    }
}

#[tokio::test]
async fn a_signature_survives_one_dead_connection() {
    let pod = Flaky::start(1, Manner::Close, SIGNED).await;
    assert_eq!(
        Answer::read(&pod.front_door.answer(&sign(), LAMBDA_ID).await).status,
        200
    );
    assert_eq!(pod.requests.load(Ordering::SeqCst), 2);

    let pod = Flaky::start(usize::MAX, Manner::Close, SIGNED).await;
    let answer = Answer::read(&pod.front_door.answer(&sign(), LAMBDA_ID).await);
    assert_eq!(
        (answer.status, code(&answer)),
        (503, Some("enclave_unavailable"))
    );
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(pod.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_key_is_never_asked_for_twice() {
    let pod = Flaky::start(1, Manner::Close, KEY).await;
    let answer = Answer::read(&pod.front_door.answer(&generate(), LAMBDA_ID).await);
    assert_eq!(
        (answer.status, code(&answer)),
        (503, Some("enclave_unavailable"))
    );
    assert_eq!(pod.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn half_an_answer_is_not_an_answer_and_not_a_dead_connection() {
    let pod = Flaky::start(1, Manner::Half, SIGNED).await;
    let answer = Answer::read(&pod.front_door.answer(&sign(), LAMBDA_ID).await);
    assert_eq!(
        (answer.status, code(&answer)),
        (502, Some("protocol_violation"))
    );
    assert_eq!(pod.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_silent_pod_ends_in_the_deadline() {
    let pod = Flaky::start(1, Manner::Hang, SIGNED).await;
    let front_door = pod.front_door.within(Duration::from_millis(500));
    let answer = Answer::read(&front_door.answer(&sign(), LAMBDA_ID).await);
    assert_eq!(
        (answer.status, code(&answer)),
        (504, Some("deadline_exceeded"))
    );
    assert_eq!(pod.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn connections_are_kept_alive() {
    let pod = Flaky::start(0, Manner::Close, SIGNED).await;
    for _ in 0..5 {
        assert_eq!(
            Answer::read(&pod.front_door.answer(&sign(), LAMBDA_ID).await).status,
            200
        );
    }
    assert_eq!(
        (
            pod.requests.load(Ordering::SeqCst),
            pod.connections.load(Ordering::SeqCst)
        ),
        (5, 1)
    );
}

#[tokio::test]
async fn a_refused_connection_is_enclave_unavailable() {
    let unused = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (settings, _directory) = settings(unused, &Pki::generate().pem());
    let front_door = FrontDoor::new(Pods::new(&settings).unwrap(), clock);
    for event in [sign(), generate()] {
        let answer = Answer::read(&front_door.answer(&event, LAMBDA_ID).await);
        assert_eq!(
            (answer.status, code(&answer)),
            (503, Some("enclave_unavailable"))
        );
    }
}

#[tokio::test]
async fn pods_are_verified() {
    let foreign = Pki::generate();
    let other_ca = World::with(&Pki::generate(), |_| foreign.pem(), "localhost").await;
    let other_name = World::with(&Pki::generate(), Pki::pem, "somebody-else").await;
    for world in [other_ca, other_name] {
        for event in [sign(), generate()] {
            let answer = Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await);
            assert_eq!(
                (answer.status, code(&answer)),
                (503, Some("enclave_unavailable"))
            );
        }
        assert!(world.seen().is_empty());
    }
}

#[tokio::test]
async fn older_tls_is_refused() {
    let pki = Pki::generate();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (settings, _directory) = settings(listener.local_addr().unwrap().port(), &pki.pem());
    let acceptor = TlsAcceptor::from(pki.server_speaking("localhost", &[&rustls::version::TLS12]));
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.is_err()
    });
    let front_door = FrontDoor::new(Pods::new(&settings).unwrap(), clock);
    let answer = Answer::read(&front_door.answer(&generate(), LAMBDA_ID).await);
    assert_eq!(
        (answer.status, code(&answer)),
        (503, Some("enclave_unavailable"))
    );
    assert!(server.await.unwrap());
}

/// The fake pod verifies every MAC; this one is about the time in it, and about refusals.
#[tokio::test]
async fn requests_are_stamped_with_the_clock_and_a_refusal_is_retryable() {
    let world = World::start().await;
    let health = gateway("GET", "/health", None);
    for event in [sign(), generate(), health] {
        assert_eq!(
            Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await).status,
            200
        );
    }
    let seen = world.seen();
    assert_eq!(seen.len(), 4);
    assert!(
        seen.iter().all(|request| request.timestamp == NOW),
        "{seen:?}"
    );
    world.answer_with(401, r#"{"error":"a sentence"}"#);
    for event in [sign(), generate()] {
        let answer = Answer::read(&world.front_door.answer(&event, LAMBDA_ID).await);
        assert_eq!(
            (answer.status, code(&answer)),
            (503, Some("enclave_unavailable"))
        );
        assert_eq!(answer.headers["retry-after"], "1");
    }
    // A refusal is an answer: nothing is sent twice.
    assert_eq!(world.seen().len(), 6);
}

#[tokio::test]
async fn internal_errors_are_not_repeated() {
    let world = World::start().await;
    let detail = "arn:aws:kms:eu-central-1:111122223333:key/internal-detail";
    for (status, body) in [
        (200, detail.to_owned()),
        (200, String::new()),
        (200, "{}".to_owned()),
        (200, SIGNATURE.to_owned()),
        (200, KEY.to_owned()),
        (
            200,
            format!(r#"{{"transaction_signed":"{detail}","transaction_hash":"0x"}}"#),
        ),
        (200, SIGNED.replace('}', r#","more":1}"#)),
        (
            200,
            format!(r#"{{"signature":"0x{}"}}"#, "0".repeat(600 * 1024)),
        ),
        (500, detail.to_owned()),
        (503, "<html>no healthy upstream</html>".to_owned()),
        (400, format!(r#"{{"code":"made_up","error":"{detail}"}}"#)),
        // A status that is not the code's.
        (
            500,
            format!(r#"{{"code":"authentication_failed","error":"{detail}"}}"#),
        ),
        (302, String::new()),
    ] {
        world.answer_with(status, body);
        let answer = Answer::read(&world.front_door.answer(&sign(), LAMBDA_ID).await);
        assert_eq!(
            (answer.status, code(&answer)),
            (502, Some(Code::ProtocolViolation.as_str()))
        );
        assert!(
            !answer.body.to_string().contains("internal-detail"),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn the_other_kind_of_answer_is_refused() {
    let world = World::start().await;
    world.answer_with(200, SIGNED);
    let answer = Answer::read(&world.front_door.answer(&generate(), LAMBDA_ID).await);
    assert_eq!(
        (answer.status, code(&answer)),
        (502, Some("protocol_violation"))
    );
}

#[test]
fn only_certificates_are_roots() {
    for pem in [
        "",
        "nothing",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let (settings, _directory) = settings(1, pem);
        assert!(Pods::new(&settings).is_err(), "{pem}");
    }
}
