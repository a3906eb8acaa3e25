//! More than an enclave can take: memory and places stay bounded, and the pod's own questions are
//! answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cloister_protocol::frame::{Frame, HelloReply, Kind, Purpose};
use cloister_protocol::limits::MAX_FRAME_LEN;
use cloister_protocol::{Code, Operation};
use cloister_transport::{ByteBudget, Client, Deadlines, Limits, Stream, read_frame, write_frame};
use tokio::io::AsyncWriteExt as _;

use crate::enclave::{Enclave, command, echo, health, hello, session, soon};

const MIB: usize = 1024 * 1024;

fn budget(bytes: usize) -> (ByteBudget, Limits) {
    let budget = ByteBudget::new(bytes);
    let limits = Limits {
        bytes: budget.clone(),
        ..Limits::default()
    };
    (budget, limits)
}

/// A request that waits in the enclave and has `length` bytes.
fn waiting(length: usize) -> cloister_protocol::message::Request {
    let mut part = b"wait".to_vec();
    part.resize(length, b' ');
    cloister_protocol::message::Request {
        operation: Operation::SetKey,
        parts: vec![part.into()],
    }
}

#[tokio::test]
async fn requests_over_the_byte_budget_are_busy_and_the_rest_is_served() {
    let (budget, limits) = budget(2 * MIB);
    let enclave = Enclave::start(limits).await;
    let client = enclave.client();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call(waiting(300_000)).await })
        })
        .collect();
    // Six of them fit; the others are refused without waiting for these.
    soon(enclave.gate.reached_by(6)).await;
    soon(async {
        while calls.iter().filter(|call| call.is_finished()).count() < 94 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (refused, held): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.is_finished());
    assert_eq!((refused.len(), held.len()), (94, 6));
    for call in refused {
        assert_eq!(call.await.unwrap().unwrap_err().code, Code::Busy);
    }
    assert_eq!(soon(client.call(echo("small"))).await.unwrap(), "small");
    assert_eq!(soon(client.call(health())).await.unwrap(), "well");
    enclave.gate.open.add_permits(6);
    for call in held {
        assert_eq!(soon(call).await.unwrap().unwrap(), "waited");
    }
    soon(given_back(&budget, 2 * MIB)).await;
    assert_eq!(soon(client.call(echo("on"))).await.unwrap(), "on");
}

#[tokio::test]
async fn an_answer_that_waits_to_be_read_stays_charged() {
    let (budget, limits) = budget(4 * MIB);
    let enclave = Enclave::start(limits).await;
    let mut pod = introduced(&enclave).await;
    for id in 1..=8 {
        let frame = Frame {
            kind: Kind::Request,
            id,
            body: echo(vec![7; 400_000]).encode(),
        };
        soon(write_frame(&mut pod, &frame, Deadlines::default()))
            .await
            .unwrap();
    }
    // All are carried out; what a socket's buffer does not hold is still the enclave's.
    let first = soon(read_frame(&mut pod, Deadlines::default()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first.body.len(), 400_001);
    assert!(budget.left() < 3 * MIB, "{}", budget.left());
    for _ in 2..=8 {
        soon(read_frame(&mut pod, Deadlines::default()))
            .await
            .unwrap()
            .unwrap();
    }
    soon(given_back(&budget, 4 * MIB)).await;
}

/// A length prefix, or half of a frame, costs a peer nothing; it may not cost others anything.
#[tokio::test]
async fn half_open_frames_on_64_connections_hold_up_nobody() {
    for sent in [4, 16, 4_000, 40_000] {
        let (_, limits) = budget(6 * MIB);
        let enclave = Enclave::start(limits).await;
        let frame = Frame {
            kind: Kind::Request,
            id: 1,
            body: vec![0; MAX_FRAME_LEN - 12].into(),
        };
        let bytes = [&frame.head().unwrap()[..], &frame.body].concat();
        let mut idle = Vec::new();
        for _ in 0..64 {
            let mut stream = introduced(&enclave).await;
            stream.write_all(&bytes[..sent]).await.unwrap();
            idle.push(stream);
        }
        let client = enclave.client();
        let began = Instant::now();
        for _ in 0..20 {
            let large = vec![1; 300_000];
            assert_eq!(soon(client.call(echo(large.clone()))).await.unwrap(), large);
            assert_eq!(soon(client.call(health())).await.unwrap(), "well");
        }
        assert!(
            began.elapsed() / 20 < Duration::from_secs(1),
            "{sent} bytes: {:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn a_full_queue_keeps_places_for_the_pods_own_questions() {
    let enclave = Enclave::start(Limits {
        queued: 1,
        ..Limits::default()
    })
    .await;
    let client = enclave.client();
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.call(command("wait")).await }
    });
    soon(enclave.gate.reached_by(1)).await;
    let refused = soon(client.call(echo("work"))).await.unwrap_err();
    assert_eq!(refused.code, Code::Busy);
    assert_eq!(soon(client.call(health())).await.unwrap(), "well");
    enclave.gate.open.add_permits(1);
    assert_eq!(soon(first).await.unwrap().unwrap(), "waited");
}

/// Twenty milliseconds of work each: four seconds of it are waiting on two processors.
#[test]
fn health_is_answered_between_requests_that_keep_the_processor_busy() {
    let enclave_runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let enclave = enclave_runtime.block_on(Enclave::start(Limits::default()));
    let address = enclave.address();
    let pod = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    pod.block_on(async {
        let client = Client::new(address, session());
        let work: Vec<_> = (0..200)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.call(command("spin")).await })
            })
            .collect();
        let mut slowest = Duration::ZERO;
        for _ in 0..5 {
            let began = Instant::now();
            assert_eq!(soon(client.call(health())).await.unwrap(), "well");
            slowest = slowest.max(began.elapsed());
        }
        assert!(
            work.iter().any(|call| !call.is_finished()),
            "there was nothing to wait behind"
        );
        eprintln!("the slowest answer to a question about health: {slowest:?}");
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        for call in work {
            assert_eq!(soon(call).await.unwrap().unwrap(), "spun");
        }
    });
    enclave.shutdown.cancel();
    enclave_runtime.shutdown_background();
}

async fn introduced(enclave: &Enclave) -> Stream {
    let mut stream = Stream::connect(&enclave.address()).await.unwrap();
    write_frame(&mut stream, &hello(Purpose::Requests), Deadlines::default())
        .await
        .unwrap();
    let reply = soon(read_frame(&mut stream, Deadlines::default())).await;
    assert_eq!(reply.unwrap(), Some(HelloReply::Accepted.frame()));
    stream
}

async fn given_back(budget: &ByteBudget, bytes: usize) {
    while budget.left() < bytes {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn memory_for_an_answer_is_shared_with_nobody_after_the_connection_died() {
    let (budget, limits) = budget(2 * MIB);
    let enclave = Enclave::start(limits).await;
    let mut pod = introduced(&enclave).await;
    let frame = Frame {
        kind: Kind::Request,
        id: 1,
        body: waiting(300_000).encode(),
    };
    write_frame(&mut pod, &frame, Deadlines::default())
        .await
        .unwrap();
    soon(enclave.gate.reached_by(1)).await;
    assert!(budget.left() < 2 * MIB);
    drop(pod);
    enclave.gate.open.add_permits(1);
    soon(given_back(&budget, 2 * MIB)).await;
    assert_eq!(Arc::strong_count(&enclave.gate), 2);
}
