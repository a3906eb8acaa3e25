//! Peers that break the protocol, by malice or by accident: the connection ends, the enclave goes
//! on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloister_protocol::frame::{Frame, FrameError, HelloReply, Kind, Purpose};
use cloister_protocol::limits::MAX_FRAME_LEN;
use cloister_protocol::message::decode_response;
use cloister_protocol::{Code, Operation};
use cloister_transport::{
    Deadlines, EgressPool, Limits, Server, Stage, TransportError, read_frame, write_frame,
};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::enclave::{self, Gate, command, echo, soon};

/// Deadlines of which only one can pass within a test.
fn impatient(stage: Stage) -> Limits {
    let of = |this| Duration::from_millis(if this == stage { 20 } else { 600_000 });
    Limits {
        deadlines: Deadlines {
            idle: of(Stage::Idle),
            header: of(Stage::Header),
            body: of(Stage::Body),
        },
        ..Limits::default()
    }
}

/// One end of a connection whose other end the enclave serves, and why the enclave ended it.
fn connect(
    limits: Limits,
) -> (
    UnixStream,
    Arc<Gate>,
    JoinHandle<Result<(), TransportError>>,
) {
    let gate = Arc::new(Gate::default());
    let server = Server::with_limits(gate.clone(), EgressPool::new(), limits);
    let (near, far) = UnixStream::pair().unwrap();
    let served = tokio::spawn(async move {
        server
            .serve_connection(far.into(), &CancellationToken::new())
            .await
    });
    (near, gate, served)
}

fn bytes_of(frame: &Frame) -> Vec<u8> {
    let encoded = frame.encode().unwrap();
    [
        &u32::try_from(encoded.len()).unwrap().to_be_bytes()[..],
        &encoded,
    ]
    .concat()
}

fn hello() -> Vec<u8> {
    bytes_of(&enclave::hello(Purpose::Requests))
}

/// The next frame from the enclave.
async fn answer(near: &mut UnixStream) -> Frame {
    let answer = soon(read_frame(near, Deadlines::default())).await;
    answer.unwrap().unwrap()
}

async fn accepted(near: &mut UnixStream) {
    assert_eq!(answer(near).await, HelloReply::Accepted.frame());
}

fn request(id: u64, body: Bytes) -> Vec<u8> {
    bytes_of(&Frame {
        kind: Kind::Request,
        id,
        body,
    })
}

/// The error with which the enclave ended a connection on which `bytes` were sent.
async fn reaction(limits: Limits, bytes: &[u8]) -> TransportError {
    let (mut near, _gate, served) = connect(limits);
    near.write_all(bytes).await.unwrap();
    let reason = soon(served).await.unwrap().unwrap_err();
    // It did close it, after its reply; bytes that were still unread make that a reset.
    let _ = soon(near.read_to_end(&mut Vec::new())).await;
    reason
}

#[tokio::test]
async fn every_stage_has_its_deadline() {
    let whole = request(1, echo("slow").encode());
    for (sent, stage) in [
        (0, Stage::Idle),
        (1, Stage::Header),
        (15, Stage::Header),
        (16, Stage::Body),
        (20, Stage::Body),
    ] {
        let bytes = [&hello()[..], &whole[..sent]].concat();
        let reason = reaction(impatient(stage), &bytes).await;
        assert!(
            matches!(reason, TransportError::TimedOut(at) if at == stage),
            "{sent} bytes: {reason:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_does_not_say_what_it_is_for_is_closed_early() {
    for sent in [0, 1, 15, 16, hello().len() - 1] {
        let reason = reaction(impatient(Stage::Header), &hello()[..sent]).await;
        assert!(
            matches!(reason, TransportError::TimedOut(_)),
            "{sent} bytes: {reason:?}"
        );
    }
}

#[tokio::test]
async fn a_peer_that_reads_no_answers_is_dropped() {
    let (mut near, _gate, served) = connect(impatient(Stage::Body));
    near.write_all(&hello()).await.unwrap();
    let flood = async {
        for id in 1.. {
            if near
                .write_all(&request(id, echo(vec![0; 100_000]).encode()))
                .await
                .is_err()
            {
                break;
            }
        }
    };
    soon(flood).await;
    let reason = soon(served).await.unwrap().unwrap_err();
    assert!(
        matches!(reason, TransportError::TimedOut(Stage::Write | Stage::Body)),
        "{reason:?}"
    );
}

#[tokio::test]
async fn an_oversize_frame_is_refused_by_its_length() {
    for length in [u32::try_from(MAX_FRAME_LEN + 1).unwrap(), u32::MAX] {
        let bytes = [hello(), length.to_be_bytes().to_vec()].concat();
        let reason = reaction(Limits::default(), &bytes).await;
        assert!(
            matches!(reason, TransportError::Frame(FrameError::TooLong)),
            "{reason:?}"
        );
    }
}

#[tokio::test]
async fn half_a_frame_and_then_the_end_is_no_request() {
    let (mut near, gate, served) = connect(Limits::default());
    let whole = request(1, command("wait").encode());
    near.write_all(&hello()).await.unwrap();
    near.write_all(&whole[..whole.len() - 1]).await.unwrap();
    accepted(&mut near).await;
    drop(near);
    assert!(matches!(
        soon(served).await.unwrap(),
        Err(TransportError::Truncated)
    ));
    assert_eq!(Arc::strong_count(&gate), 1, "nothing was begun");
}

#[tokio::test]
async fn frames_that_have_no_place_end_the_connection() {
    let cases: [(&str, Vec<u8>); 7] = [
        (
            "garbage first",
            b"GET / HTTP/1.1\r\nHost: enclave\r\n\r\n".to_vec(),
        ),
        ("a request first", request(1, echo("early").encode())),
        (
            "an unknown purpose",
            bytes_of(&Frame::control(Kind::Hello, vec![9])),
        ),
        ("a second hello", [hello(), hello()].concat()),
        (
            "a response",
            [
                hello(),
                bytes_of(&Frame {
                    kind: Kind::Response,
                    id: 1,
                    body: vec![0].into(),
                }),
            ]
            .concat(),
        ),
        (
            "a request without an id",
            [hello(), request(0, echo("anonymous").encode())].concat(),
        ),
        (
            "an id that is in use",
            [
                hello(),
                request(7, command("wait").encode()),
                request(7, echo("again").encode()),
            ]
            .concat(),
        ),
    ];
    for (what, bytes) in cases {
        let reason = reaction(Limits::default(), &bytes).await;
        assert!(
            matches!(
                reason,
                TransportError::Frame(_) | TransportError::Violation(_)
            ),
            "{what}: {reason:?}"
        );
    }
}

#[tokio::test]
async fn an_id_may_be_used_again_once_it_is_answered() {
    let (mut near, _gate, _served) = connect(Limits::default());
    near.write_all(&hello()).await.unwrap();
    accepted(&mut near).await;
    for body in ["first", "second"] {
        near.write_all(&request(7, echo(body).encode()))
            .await
            .unwrap();
        let answer = answer(&mut near).await;
        assert_eq!(
            (answer.id, decode_response(answer.body).unwrap()),
            (7, body.into())
        );
    }
}

#[tokio::test]
async fn an_unreadable_request_in_a_good_frame_is_answered() {
    let (mut near, _gate, _served) = connect(Limits::default());
    near.write_all(&hello()).await.unwrap();
    accepted(&mut near).await;
    for body in [
        &[][..],
        &[200],
        &[Operation::GenerateKey as u8],
        &[Operation::GenerateKey as u8, 0, 0, 0, 9, 1],
    ] {
        near.write_all(&request(1, Bytes::copy_from_slice(body)))
            .await
            .unwrap();
        let answer = answer(&mut near).await;
        assert_eq!(
            decode_response(answer.body).unwrap_err().code,
            Code::ProtocolViolation
        );
    }
}

/// The reference deployment takes whatever one `read` returns for a whole message.
#[tokio::test]
async fn reference_defect_single_read_a_message_in_single_bytes_arrives_whole() {
    let (mut near, _gate, _served) = connect(Limits::default());
    for byte in [hello(), request(1, echo("in single bytes").encode())].concat() {
        near.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    accepted(&mut near).await;
    let answer = answer(&mut near).await;
    assert_eq!(decode_response(answer.body).unwrap(), "in single bytes");
}

/// And two messages that one `read` returns for one.
#[tokio::test]
async fn reference_defect_single_read_two_messages_in_one_write_are_two() {
    let (mut near, _gate, _served) = connect(Limits::default());
    let bytes = [
        hello(),
        request(1, echo("a").encode()),
        request(2, echo("b").encode()),
    ]
    .concat();
    near.write_all(&bytes).await.unwrap();
    accepted(&mut near).await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        let answer = answer(&mut near).await;
        answers.push((answer.id, decode_response(answer.body).unwrap()));
    }
    answers.sort();
    assert_eq!(answers, [(1, "a".into()), (2, "b".into())]);
}

#[tokio::test]
async fn closing_without_a_word_is_no_error() {
    for introduced in [false, true] {
        let (mut near, _gate, served) = connect(Limits::default());
        if introduced {
            near.write_all(&hello()).await.unwrap();
            accepted(&mut near).await;
        }
        drop(near);
        soon(served).await.unwrap().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// For any input, the connection ends when the peer is done, and nothing panics.
    #[test]
    fn arbitrary_bytes_end_in_an_orderly_way(introduced: bool, bytes: Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut near, _gate, served) = connect(Limits::default());
            if introduced {
                near.write_all(&hello()).await.unwrap();
            }
            let (mut read, mut write) = near.split();
            // Either may fail: the enclave need not wait for the end of nonsense.
            let _ = write.write_all(&bytes).await;
            let _ = write.shutdown().await;
            let _ = soon(read.read_to_end(&mut Vec::new())).await;
            let _ = soon(served).await.unwrap();
        });
    }

    /// The same with bytes that are at least a frame of some kind.
    #[test]
    fn arbitrary_frames_end_in_an_orderly_way(frames in prop::collection::vec((1..=6_u8, 0..3_u64, any::<Vec<u8>>()), 0..5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut near, _gate, served) = connect(Limits::default());
            near.write_all(&hello()).await.unwrap();
            for (kind, id, body) in frames {
                let kind = [Kind::Hello, Kind::Request, Kind::Response, Kind::Connect, Kind::Connected, Kind::HelloReply][usize::from(kind) - 1];
                let _ = write_frame(&mut near, &Frame { kind, id, body: body.into() }, Deadlines::default()).await;
            }
            let (mut read, mut write) = near.split();
            let _ = write.shutdown().await;
            let _ = soon(read.read_to_end(&mut Vec::new())).await;
            let _ = soon(served).await.unwrap();
        });
    }
}

/// Nothing has been counted yet when a hello arrives, so that its length alone must be refused.
#[tokio::test]
async fn a_hello_is_short() {
    let mut long = hello();
    long[..4].copy_from_slice(&8192_u32.to_be_bytes());
    let reason = reaction(Limits::default(), &long).await;
    assert!(
        matches!(reason, TransportError::Frame(FrameError::TooLong)),
        "{reason}"
    );
}
