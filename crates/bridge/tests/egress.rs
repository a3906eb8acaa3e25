//! An enclave's streams through the pod to real sockets.

#![cfg(test)]

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use cloister_bridge::{Egress, Limits, Totals};
use cloister_protocol::frame::Purpose;
use cloister_protocol::message::Request;
use cloister_protocol::{Rejection, SessionValue};
use cloister_transport::{
    Address, EgressPool, Handler, Listener, Server, Session, Stream, TransportError,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Enclave and pod, connected.
struct Pair {
    directory: TempDir,
    pool: EgressPool,
    egress: Egress,
    enclave: (JoinHandle<()>, CancellationToken),
    pod: (JoinHandle<()>, CancellationToken),
}

struct NoRequests;

impl Handler for NoRequests {
    async fn handle(&self, _: Request) -> Result<Vec<u8>, Rejection> {
        unreachable!("egress only")
    }
}

impl Pair {
    async fn start(allow: &str, limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::Unix(directory.path().join("enclave.sock"));
        let pool = EgressPool::new();
        let enclave = start_enclave(&address, &pool).await;
        let egress = Egress::new(address, session(), allow.parse().unwrap(), limits);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn({
            let (egress, shutdown) = (egress.clone(), shutdown.clone());
            async move { egress.run(shutdown).await }
        });
        Self {
            directory,
            pool,
            egress,
            enclave,
            pod: (running, shutdown),
        }
    }

    fn totals(&self) -> Totals {
        self.egress.counters().totals()
    }
}

fn session() -> Session {
    Session::new(SessionValue::new([7; 32]))
}

async fn start_enclave(
    address: &Address,
    pool: &EgressPool,
) -> (JoinHandle<()>, CancellationToken) {
    let listener = Listener::bind(address).await.unwrap();
    let shutdown = CancellationToken::new();
    let server = Server::new(Arc::new(NoRequests), pool.clone());
    (
        tokio::spawn(server.run(listener, shutdown.clone())),
        shutdown,
    )
}

/// Answers each connection, once its sender is done, with what it sent, backwards.
async fn start_reverser() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut received = Vec::new();
                stream.read_to_end(&mut received).await.unwrap();
                received.reverse();
                stream.write_all(&received).await.unwrap();
            });
        }
    });
    port
}

async fn exchange(mut stream: Stream, message: &[u8]) -> Vec<u8> {
    stream.write_all(message).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it hangs")
}

#[tokio::test]
async fn bytes_pass_both_ways_and_each_direction_ends_by_itself() {
    let port = start_reverser().await;
    let pair = Pair::start(
        &format!("kms.test:443=127.0.0.1:{port},localhost:{port}"),
        Limits::default(),
    )
    .await;
    let stream = soon(pair.pool.connect("kms.test", 443)).await.unwrap();
    assert_eq!(soon(exchange(stream, b"abc")).await, b"cba");
    let long: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let stream = soon(pair.pool.connect("localhost", port)).await.unwrap();
    let mut answer = soon(exchange(stream, &long)).await;
    answer.reverse();
    assert!(answer == long);
    let totals = pair.totals();
    assert_eq!(
        (totals.opened, totals.sent, totals.received),
        (2, 3_000_003, 3_000_003)
    );
}

#[tokio::test]
async fn a_destination_that_is_done_ends_only_its_own_direction() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pair = Pair::start(&format!("localhost:{port}"), Limits::default()).await;
    let (stream, accepted) =
        soon(async { tokio::join!(pair.pool.connect("localhost", port), listener.accept()) }).await;
    let (mut stream, (mut destination, _)) = (stream.unwrap(), accepted.unwrap());
    destination.write_all(b"goodbye").await.unwrap();
    destination.shutdown().await.unwrap();
    let mut received = Vec::new();
    soon(stream.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received, b"goodbye");
    stream.write_all(b"not yet").await.unwrap();
    drop(stream);
    received.clear();
    soon(destination.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received, b"not yet");
}

#[tokio::test]
async fn what_is_not_on_the_list_is_not_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pair = Pair::start(&format!("kms.test:443=127.0.0.1:{port}"), Limits::default()).await;
    for (host, asked) in [
        ("127.0.0.1", port),
        ("kms.test", 80),
        ("169.254.169.254", 80),
        ("kms.test:443=x", 1),
        ("", 443),
    ] {
        let refused = soon(pair.pool.connect(host, asked)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{host}");
    }
    let totals = pair.totals();
    assert_eq!(
        (totals.accepted, totals.refused_destination, totals.opened),
        (5, 5, 0)
    );
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_to_be_so() {
    let dead = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let pair = Pair::start(
        &format!("dead.test:443=127.0.0.1:{dead},no.test:443=nowhere.invalid:443"),
        Limits::default(),
    )
    .await;
    for host in ["dead.test", "no.test"] {
        let refused = soon(pair.pool.connect(host, 443)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::HostUnreachable, "{host}");
    }
    assert_eq!(pair.totals().failed, 2);
}

#[tokio::test]
async fn used_connections_are_replaced() {
    let port = start_reverser().await;
    let pair = Pair::start(
        &format!("localhost:{port}"),
        Limits {
            idle: 2,
            ..Limits::default()
        },
    )
    .await;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(soon(pair.pool.connect("localhost", port)).await.unwrap());
    }
    for stream in open {
        assert_eq!(soon(exchange(stream, b"abc")).await, b"cba");
    }
}

#[tokio::test]
async fn streams_are_limited_and_make_room_when_they_end() {
    let port = start_reverser().await;
    let pair = Pair::start(
        &format!("localhost:{port}"),
        Limits {
            streams: 1,
            ..Limits::default()
        },
    )
    .await;
    let first = soon(pair.pool.connect("localhost", port)).await.unwrap();
    assert_eq!(
        soon(pair.pool.connect("localhost", port))
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::ResourceBusy
    );
    assert_eq!(soon(exchange(first, b"abc")).await, b"cba");
    // The pod notices the end of a stream a moment after the enclave does.
    let second = soon(async {
        loop {
            match pair.pool.connect("localhost", port).await {
                Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                    tokio::task::yield_now().await
                }
                other => return other.unwrap(),
            }
        }
    });
    assert_eq!(exchange(second.await, b"abc").await, b"cba");
}

#[tokio::test]
async fn a_restarted_enclave_gets_new_connections() {
    let port = start_reverser().await;
    let pair = Pair::start(&format!("localhost:{port}"), Limits::default()).await;
    soon(pair.pool.connect("localhost", port)).await.unwrap();
    pair.enclave.1.cancel();
    soon(pair.enclave.0).await.unwrap();
    drop(pair.pool);
    let pool = EgressPool::new();
    let address = Address::Unix(pair.directory.path().join("enclave.sock"));
    let (_running, _shutdown) = start_enclave(&address, &pool).await;
    let stream = soon(pool.connect("localhost", port)).await.unwrap();
    assert_eq!(soon(exchange(stream, b"abc")).await, b"cba");
}

#[tokio::test]
async fn the_enclave_refuses_the_offers_of_another_session() {
    let port = start_reverser().await;
    let pair = Pair::start(&format!("localhost:{port}"), Limits::default()).await;
    soon(pair.pool.connect("localhost", port)).await.unwrap();
    let address = Address::Unix(pair.directory.path().join("enclave.sock"));
    let stranger = Session::new(SessionValue::new([8; 32]));
    let allow = "localhost:1".parse().unwrap();
    let egress = Egress::new(address.clone(), stranger.clone(), allow, Limits::default());
    let offering = tokio::spawn(async move { egress.run(CancellationToken::new()).await });
    soon(stranger.refused()).await;
    let refused = stranger.connect(&address, Purpose::Egress).await;
    assert!(matches!(refused, Err(TransportError::OtherSession)));
    // The stranger would not allow this destination.
    for _ in 0..20 {
        soon(pair.pool.connect("localhost", port)).await.unwrap();
    }
    offering.abort();
}

#[tokio::test]
async fn stopping_closes_everything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pair = Pair::start(&format!("localhost:{port}"), Limits::default()).await;
    let (stream, accepted) =
        soon(async { tokio::join!(pair.pool.connect("localhost", port), listener.accept()) }).await;
    let (mut stream, (mut destination, _)) = (stream.unwrap(), accepted.unwrap());
    pair.pod.1.cancel();
    soon(pair.pod.0).await.unwrap();
    assert_eq!(soon(stream.read(&mut [0])).await.unwrap_or(0), 0);
    assert_eq!(soon(destination.read(&mut [0])).await.unwrap_or(0), 0);
}
