//! The session of a boot: whoever does not repeat the value of the first connection gets nothing,
//! and takes nothing from the pod.

use std::path::Path;
use std::sync::Arc;

use cloister_protocol::frame::{ConnectReply, Frame, Hello, HelloReply, Kind, Purpose};
use cloister_protocol::{Code, SessionValue};
use cloister_transport::{
    Client, Deadlines, EgressPool, Limits, Server, Session, Stream, TransportError, read_frame,
    write_frame,
};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use crate::enclave::{Enclave, Gate, echo, health, soon};

fn with_value(byte: u8) -> Session {
    Session::new(SessionValue::new([byte; 32]))
}

/// Connections to one boot, in order.
#[derive(Deserialize)]
struct Vector {
    connections: Vec<Connection>,
}

/// In hex: what is sent, and the enclave's whole reply. Without one the connection is closed.
#[derive(Deserialize)]
struct Connection {
    sent: String,
    reply: Option<String>,
}

#[tokio::test]
async fn every_vector_is_answered_as_it_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/hello");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let vector: Vector = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let server = Server::new(Arc::new(Gate::default()), EgressPool::new());
        for (index, connection) in vector.connections.into_iter().enumerate() {
            let what = format!("{}, connection {index}", path.display());
            let (mut near, far) = UnixStream::pair().unwrap();
            let server = server.clone();
            let served = tokio::spawn(async move {
                server
                    .serve_connection(far.into(), &CancellationToken::new())
                    .await
            });
            near.write_all(&const_hex::decode(connection.sent).unwrap())
                .await
                .unwrap();
            let expected = const_hex::decode(connection.reply.unwrap_or_default()).unwrap();
            let accepted = expected.last() == Some(&(HelloReply::Accepted as u8));
            if accepted {
                near.shutdown().await.unwrap();
            }
            let mut reply = vec![0; expected.len()];
            soon(near.read_exact(&mut reply)).await.expect(&what);
            assert_eq!(reply, expected, "{what}");
            if accepted {
                soon(served).await.unwrap().expect(&what);
            } else {
                soon(served).await.unwrap().expect_err(&what);
                // Nothing else; bytes that were unread make the end a reset.
                assert_eq!(soon(near.read(&mut [0])).await.unwrap_or(0), 0, "{what}");
            }
        }
        count += 1;
    }
    assert!(count >= 14, "{count} vectors");
}

#[tokio::test]
async fn a_stranger_after_the_pod_is_refused_and_the_pod_served() {
    let enclave = Enclave::start(Limits::default()).await;
    let pod = enclave.client();
    assert_eq!(soon(pod.call(health())).await.unwrap(), "well");
    let strange = with_value(8);
    let stranger = Client::new(enclave.address(), strange.clone());
    for request in [health(), echo("configure")] {
        let refused = soon(stranger.call(request)).await.unwrap_err();
        assert_eq!(refused.code, Code::EnclaveUnavailable);
    }
    soon(strange.refused()).await;
    let offered = strange.connect(&enclave.address(), Purpose::Egress).await;
    assert!(matches!(offered, Err(TransportError::OtherSession)));
    assert_eq!(soon(pod.call(echo("on"))).await.unwrap(), "on");
    // The next connection of the pod, too.
    assert_eq!(soon(enclave.client().call(echo("on"))).await.unwrap(), "on");
}

/// The pool takes the newest connection: offers of a stranger would be used before the pod's.
#[tokio::test]
async fn offers_of_a_stranger_are_never_used() {
    let pool = EgressPool::new();
    let server = Server::new(Arc::new(Gate::default()), pool.clone());
    let offer = |session: Session| {
        let (near, far) = UnixStream::pair().unwrap();
        let server = server.clone();
        async move {
            let mut stream = Stream::from(near);
            let (purpose, session) = (Purpose::Egress, session.value());
            let hello = Hello { purpose, session }.frame();
            write_frame(&mut stream, &hello, Deadlines::default())
                .await
                .unwrap();
            let outcome = server
                .serve_connection(far.into(), &CancellationToken::new())
                .await;
            let reply = read_frame(&mut stream, Deadlines::default()).await.unwrap();
            (
                stream,
                outcome,
                HelloReply::decode(&reply.unwrap()).unwrap(),
            )
        }
    };
    let (mut pod, outcome, reply) = offer(with_value(7)).await;
    assert!(outcome.is_ok() && reply == HelloReply::Accepted);
    for _ in 0..200 {
        let (mut stranger, outcome, reply) = offer(with_value(8)).await;
        assert!(matches!(outcome, Err(TransportError::OtherSession)));
        assert_eq!(reply, HelloReply::OtherSession);
        assert_eq!(
            stranger.read(&mut [0]).await.unwrap_or(0),
            0,
            "it is closed"
        );
    }
    let dialled = async {
        let asked = soon(read_frame(&mut pod, Deadlines::default())).await;
        let asked = asked.unwrap().unwrap();
        let connected = Frame::control(Kind::Connected, vec![ConnectReply::Connected as u8]);
        write_frame(&mut pod, &connected, Deadlines::default())
            .await
            .unwrap();
        asked.body
    };
    let (stream, asked) = tokio::join!(pool.connect("kms.test", 443), dialled);
    stream.unwrap();
    assert_eq!(asked, "kms.test:443");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_do_not_use_up_the_pods_connections() {
    let enclave = Enclave::start(Limits {
        connections: 2,
        ..Limits::default()
    })
    .await;
    let pod = enclave.client();
    assert_eq!(soon(pod.call(health())).await.unwrap(), "well");

    let mut silent = Vec::new();
    let strange = with_value(8);
    for round in 0..300 {
        silent.push(Stream::connect(&enclave.address()).await.unwrap());
        if round % 10 == 0 {
            let outcome = soon(strange.connect(&enclave.address(), Purpose::Requests)).await;
            assert!(matches!(outcome, Err(TransportError::OtherSession)));
        }
    }
    assert_eq!(soon(pod.call(echo("old"))).await.unwrap(), "old");
    // The pod's second and last connection.
    let successor = enclave.client();
    assert_eq!(soon(successor.call(echo("new"))).await.unwrap(), "new");
    // The strangers are closed although they wait patiently.
    for mut stranger in silent {
        assert_eq!(soon(stranger.read(&mut [0])).await.unwrap_or(0), 0);
    }
    assert_eq!(soon(successor.call(echo("on"))).await.unwrap(), "on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_first_values_wins_for_the_whole_boot() {
    let enclave = Enclave::start(Limits::default()).await;
    let all: Vec<_> = (0..20)
        .map(|byte| {
            let address = enclave.address();
            tokio::spawn(async move {
                let session = with_value(byte);
                let outcome = session.connect(&address, Purpose::Requests).await;
                (session, outcome.is_ok())
            })
        })
        .collect();
    let mut winners = Vec::new();
    for one in all {
        let (session, accepted) = soon(one).await.unwrap();
        if accepted {
            winners.push(session);
        } else {
            soon(session.refused()).await;
        }
    }
    assert_eq!(winners.len(), 1);
    let client = Client::new(enclave.address(), winners[0].clone());
    assert_eq!(soon(client.call(echo("on"))).await.unwrap(), "on");
    let late = with_value(99);
    let refused = soon(late.connect(&enclave.address(), Purpose::Requests)).await;
    assert!(matches!(refused, Err(TransportError::OtherSession)));
}
