//! Many, large and slow frames through the emulated vsock.

use std::time::{Duration, Instant};

use cloister_contract::{Service, metrics};
use cloister_e2e::enclave::{connect, sign_request};
use cloister_e2e::{Local, TRANSFER, eventually, json_body};
use cloister_local::part::Part;
use cloister_protocol::Code;
use cloister_protocol::Operation;
use cloister_protocol::frame::{Frame, Kind};
use cloister_protocol::limits::MAX_CALLDATA_LEN;
use cloister_protocol::message::{Request, decode_response};
use cloister_transport::{Deadlines, Stream, read_frame, write_frame};
use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) async fn run(local: &Local) {
    small_frames_survive_a_reader_that_pauses(local).await;
    large_frames_pass_both_ways_with_slow_readers(local).await;
    the_largest_requests_leave_the_signer_serving(local).await;
}

/// Kernels that count the overhead of each packet against the receive window reset such a
/// connection when the window is small.
async fn small_frames_survive_a_reader_that_pauses(local: &Local) {
    let mut stream = connect(local, Service::Signer).await;
    let body = Request {
        operation: Operation::SignTransaction,
        parts: vec![vec![b'x'; 270].into(), vec![b'{'; 5].into()],
    }
    .encode();
    local
        .stack
        .signal_emulator(Service::Signer, Signal::STOP)
        .unwrap();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let send = async {
        for id in 1..=600 {
            let (kind, body) = (Kind::Request, body.clone());
            let frame = Frame { kind, id, body };
            write.write_all(&frame.head().unwrap()).await.unwrap();
            write.write_all(&frame.body).await.unwrap();
        }
    };
    let pause = async {
        // The pause is what is tested.
        tokio::time::sleep(Duration::from_millis(200)).await;
        local
            .stack
            .signal_emulator(Service::Signer, Signal::CONT)
            .unwrap();
    };
    let receive = async {
        let mut answered = std::collections::BTreeSet::new();
        while answered.len() < 600 {
            let frame = read_frame(&mut read, Deadlines::default())
                .await
                .unwrap()
                .expect("no reset");
            assert!(decode_response(frame.body).is_err());
            answered.insert(frame.id);
        }
    };
    tokio::join!(send, pause, receive);
}

async fn large_frames_pass_both_ways_with_slow_readers(local: &Local) {
    let key = local.generate().await;
    // Of the largest, request and answer have 200 kB; of the others 240 KiB.
    for (streams, calldata_len) in [(1, 100_000), (4, 120 * 1024)] {
        let payload = with_calldata(calldata_len);
        let expected = local.sign(&key, &payload).await;
        let body = sign_request(local, &key, &payload).await;
        let answers: Vec<_> = join_all((0..streams).map(|_| {
            let body = body.clone();
            async move {
                let mut stream = connect(local, Service::Signer).await;
                let (kind, id) = (Kind::Request, 1);
                let frame = Frame { kind, id, body };
                write_frame(&mut stream, &frame, Deadlines::default())
                    .await
                    .unwrap();
                decode_response(read_slowly(&mut stream).await.body).unwrap()
            }
        }))
        .await;
        for answer in answers {
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert!(
                answer["transaction_signed"] == expected["transaction_signed"],
                "another answer over a slow connection"
            );
        }
    }
}

/// One frame in pieces of 16 KiB, with a pause before each.
async fn read_slowly(stream: &mut Stream) -> Frame {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.unwrap();
    let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    for piece in frame.chunks_mut(16 * 1024) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.read_exact(piece).await.unwrap();
    }
    Frame::decode(frame.into()).unwrap()
}

/// As many as a pod has in flight, for a key that the signer has not seen: none is refused before
/// its memory is needed.
async fn the_largest_requests_leave_the_signer_serving(local: &Local) {
    let key = local.generate().await;
    let body = sign_request(local, &key, &with_calldata(MAX_CALLDATA_LEN)).await;
    let mut stream = connect(local, Service::Signer).await;
    let process = |local: &Local| local.stack.enclave_process(Service::Signer).unwrap();
    let before = process(local);
    eventually("a record of the memory", async || {
        !memory_used(local).is_empty()
    })
    .await;
    let used_before = memory_used(local).last().copied().unwrap();
    let began = Instant::now();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let send = async {
        for id in 1..=248 {
            let (kind, body) = (Kind::Request, body.clone());
            write_frame(&mut write, &Frame { kind, id, body }, Deadlines::default())
                .await
                .unwrap();
        }
    };
    let receive = async {
        let (mut signed, mut busy, mut late) = (0, 0, 0);
        for _ in 1..=248 {
            let frame = read_frame(&mut read, Deadlines::default())
                .await
                .unwrap()
                .expect("the enclave serves on");
            match decode_response(frame.body).map_err(|rejection| rejection.code) {
                Ok(_) => signed += 1,
                Err(Code::Busy) => busy += 1,
                Err(Code::DeadlineExceeded) => late += 1,
                Err(other) => panic!("{other}"),
            }
        }
        (signed, busy, late)
    };
    let ((), (signed, busy, late)) = tokio::join!(send, receive);
    eprintln!(
        "248 of the largest requests: {signed} signed, {busy} busy, {late} late, in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert!(signed > 0);
    // The same enclave, not another one that was started in its place.
    let answer = local
        .post("/sign_transaction", &key.sign_body(TRANSFER))
        .await;
    assert_eq!(answer.status, 200, "{}", json_body(&answer));
    assert_eq!(process(local), before);
    let records = memory_used(local).len();
    eventually("the return of the burst's memory", async || {
        memory_used(local)[records..]
            .iter()
            .any(|used| *used <= used_before + RETAINED_PERCENT)
    })
    .await;
}

/// The signer's records of its memory, in percent of the enclave's.
fn memory_used(local: &Local) -> Vec<f64> {
    local
        .log(Part::SignerPod)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?[metrics::MEMORY_USED].as_f64())
        .collect()
}

fn with_calldata(length: usize) -> String {
    let mut payload: Value = serde_json::from_str(TRANSFER).unwrap();
    payload["data"] = format!("0x{}", "5a".repeat(length)).into();
    payload.to_string()
}

/// Memory that a burst may leave in use, in percent of the enclave's: data keys and worker stacks.
const RETAINED_PERCENT: f64 = 10.0;
