//! The enclave's way out, with the test in the place of the pod.

use std::io::ErrorKind;
use std::sync::Arc;

use cloister_protocol::frame::{ConnectReply, Frame, HelloReply, Kind, Purpose};
use cloister_transport::{Deadlines, EgressPool, Server, Stream, read_frame, write_frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use crate::enclave::{Gate, hello, soon};

/// Offers one connection to the pool and returns the pod's end of it.
fn offer(pool: &EgressPool) -> Stream {
    let (near, far) = UnixStream::pair().unwrap();
    pool.offer(far.into());
    near.into()
}

/// The pod: waits to be asked for a destination, returns it, and replies.
async fn reply(stream: &mut Stream, reply: ConnectReply) -> String {
    let asked = soon(read_frame(stream, Deadlines::default()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((asked.kind, asked.id), (Kind::Connect, 0));
    let frame = Frame::control(Kind::Connected, vec![reply as u8]);
    write_frame(stream, &frame, Deadlines::default())
        .await
        .unwrap();
    String::from_utf8(asked.body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_stream_closes_in_each_direction_by_itself() {
    let pool = EgressPool::new();
    let mut pod = offer(&pool);
    let (stream, asked) = tokio::join!(
        pool.connect("kms.test", 443),
        reply(&mut pod, ConnectReply::Connected)
    );
    let mut stream = stream.unwrap();
    assert_eq!(asked, "kms.test:443");
    stream.write_all(b"question").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut received = String::new();
    soon(pod.read_to_string(&mut received)).await.unwrap();
    assert_eq!(received, "question");
    pod.write_all(b"answer").await.unwrap();
    drop(pod);
    received.clear();
    soon(stream.read_to_string(&mut received)).await.unwrap();
    assert_eq!(received, "answer");
}

#[tokio::test]
async fn what_the_destination_says_first_is_not_lost() {
    let pool = EgressPool::new();
    let mut pod = offer(&pool);
    let connecting = tokio::spawn(async move { pool.connect("greeter.test", 25).await });
    soon(read_frame(&mut pod, Deadlines::default()))
        .await
        .unwrap()
        .unwrap();
    let connected = Frame::control(Kind::Connected, vec![0]).encode().unwrap();
    let length = u32::try_from(connected.len()).unwrap().to_be_bytes();
    pod.write_all(&[&length[..], &connected[..], b"220 welcome"].concat())
        .await
        .unwrap();
    drop(pod);
    let mut received = String::new();
    soon(connecting)
        .await
        .unwrap()
        .unwrap()
        .read_to_string(&mut received)
        .await
        .unwrap();
    assert_eq!(received, "220 welcome");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let pool = EgressPool::new();
    for (answer, kind) in [
        (ConnectReply::NotAllowed, ErrorKind::PermissionDenied),
        (ConnectReply::Unreachable, ErrorKind::HostUnreachable),
        (ConnectReply::TooManyStreams, ErrorKind::ResourceBusy),
    ] {
        let mut pod = offer(&pool);
        let (stream, _) = tokio::join!(pool.connect("kms.test", 443), reply(&mut pod, answer));
        assert_eq!(stream.unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn dead_and_talkative_connections_are_passed_over() {
    let pool = EgressPool::new();
    let mut good = offer(&pool);
    let mut talkative = offer(&pool);
    talkative.write_all(b"unasked").await.unwrap();
    let mut confused = offer(&pool);
    drop(offer(&pool));
    let replies = async {
        let asked = read_frame(&mut confused, Deadlines::default())
            .await
            .unwrap()
            .unwrap();
        write_frame(&mut confused, &asked, Deadlines::default())
            .await
            .unwrap();
        reply(&mut good, ConnectReply::Connected).await
    };
    let (stream, asked) =
        soon(async { tokio::join!(pool.connect("kms.test", 443), replies) }).await;
    stream.unwrap();
    assert_eq!(asked, "kms.test:443");
}

#[tokio::test]
async fn whoever_finds_none_waits_for_the_next() {
    let pool = EgressPool::new();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.connect("kms.test", 443).await })
        })
        .collect();
    tokio::task::yield_now().await;
    for _ in 0..3 {
        let mut pod = offer(&pool);
        reply(&mut pod, ConnectReply::Connected).await;
    }
    for stream in waiting {
        soon(stream).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_connections_of_a_pod_that_is_gone_give_way() {
    let pool = EgressPool::new();
    let mut old: Vec<_> = (0..64).map(|_| offer(&pool)).collect();
    let _new = offer(&pool);
    assert!(
        soon(read_frame(&mut old[0], Deadlines::default()))
            .await
            .unwrap()
            .is_none(),
        "the oldest is closed"
    );
}

#[tokio::test]
async fn the_server_passes_egress_connections_on() {
    let pool = EgressPool::new();
    let server = Server::new(Arc::new(Gate::default()), pool.clone());
    let (near, far) = UnixStream::pair().unwrap();
    let mut pod = Stream::from(near);
    write_frame(&mut pod, &hello(Purpose::Egress), Deadlines::default())
        .await
        .unwrap();
    server
        .serve_connection(far.into(), &CancellationToken::new())
        .await
        .unwrap();
    let accepted = soon(read_frame(&mut pod, Deadlines::default())).await;
    assert_eq!(accepted.unwrap(), Some(HelloReply::Accepted.frame()));
    let (stream, _) = tokio::join!(
        pool.connect("kms.test", 443),
        reply(&mut pod, ConnectReply::Connected)
    );
    stream.unwrap();
}
