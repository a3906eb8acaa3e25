//! One multiplexed connection, seen from the enclave.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use cloister_protocol::frame::{Frame, HEADER_LEN, Kind};
use cloister_protocol::limits::MAX_FRAME_LEN;
use cloister_protocol::message::{Request, encode_response};
use cloister_protocol::{Code, Rejection};
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::codec::FrameReader;
use crate::outgoing::write_frames;
use crate::{Handler, Limits, TransportError};

/// Answers requests until the peer closes its half or `shutdown`; what is in flight then is still
/// answered.
pub(crate) async fn serve_requests<S, H>(
    stream: S,
    handler: &Arc<H>,
    limits: &Limits,
    queue: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Result<(), TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let (read, write) = tokio::io::split(stream);
    let (answers, queued) = mpsc::channel(limits.in_flight);
    let mut writing = pin!(write_frames(write, queued, limits.deadlines));
    let requests = Requests {
        frames: FrameReader::new(read, limits.deadlines),
        handler,
        limits,
        queue,
        permits: Arc::new(Semaphore::new(limits.in_flight)),
        ids: Arc::default(),
        answers,
    };
    tokio::select! {
        ended = requests.read(shutdown) => ended?,
        failed = &mut writing => return failed,
    }
    // The reader is gone, and with it its end of the queue: writing ends with the last request in
    // flight.
    writing.await
}

struct Requests<'a, R, H> {
    frames: FrameReader<R>,
    handler: &'a Arc<H>,
    limits: &'a Limits,
    queue: &'a Arc<Semaphore>,
    permits: Arc<Semaphore>,
    /// Of the requests in flight.
    ids: Arc<Mutex<HashSet<u64>>>,
    answers: mpsc::Sender<Frame>,
}

impl<R: AsyncRead + Unpin, H: Handler> Requests<'_, R, H> {
    async fn read(mut self, shutdown: &CancellationToken) -> Result<(), TransportError> {
        loop {
            let permit = self
                .permits
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let frame = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                frame = self.frames.next() => frame?,
            };
            let Some(Frame { kind, id, body }) = frame else {
                return Ok(());
            };
            if kind != Kind::Request || id == 0 {
                return Err(TransportError::Violation("not a request"));
            }
            if !lock(&self.ids).insert(id) {
                return Err(TransportError::Violation("the request id is in use"));
            }
            let admitted = Request::decode(body).and_then(|request| {
                match self.queue.clone().try_acquire_owned() {
                    Ok(slot) => Ok((request, slot)),
                    Err(_) => Err(Rejection::new(
                        Code::Busy,
                        "too many requests are waiting; try again",
                    )),
                }
            });
            let answers = self.answers.clone();
            let ids = self.ids.clone();
            match admitted {
                Err(rejection) => {
                    lock(&ids).remove(&id);
                    // An error means that writing failed, which ends the connection by itself.
                    let _ = answers.send(answer(id, &Err(rejection))).await;
                }
                Ok((request, slot)) => {
                    let handler = self.handler.clone();
                    let deadline = self.limits.request;
                    tokio::spawn(async move {
                        let outcome = carry_out(handler, request, deadline).await;
                        drop(slot);
                        lock(&ids).remove(&id);
                        // An error means that the connection is gone: nobody waits for the answer.
                        let _ = answers.send(answer(id, &outcome)).await;
                        drop(permit);
                    });
                }
            }
        }
    }
}

async fn carry_out<H: Handler>(
    handler: Arc<H>,
    request: Request,
    deadline: std::time::Duration,
) -> Result<Vec<u8>, Rejection> {
    let operation = request.operation;
    let work = AssertUnwindSafe(async { handler.handle(request).await }).catch_unwind();
    match timeout(deadline, work).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => {
            // What was panicked with may hold anything; the panic hook decides what of it is
            // printed.
            tracing::error!(?operation, "the handler panicked");
            Err(Rejection::new(Code::Internal, "internal error"))
        }
        Err(_) => Err(Rejection::new(
            Code::DeadlineExceeded,
            "the enclave took too long",
        )),
    }
}

fn answer(id: u64, outcome: &Result<Vec<u8>, Rejection>) -> Frame {
    let mut body = encode_response(outcome);
    if HEADER_LEN + body.len() > MAX_FRAME_LEN {
        tracing::error!(length = body.len(), "the answer does not fit into a frame");
        body = encode_response(&Err(Rejection::new(Code::Internal, "internal error")));
    }
    Frame {
        kind: Kind::Response,
        id,
        body,
    }
}

/// A set of numbers is whole whatever panicked meanwhile.
fn lock(ids: &Mutex<HashSet<u64>>) -> std::sync::MutexGuard<'_, HashSet<u64>> {
    ids.lock().unwrap_or_else(PoisonError::into_inner)
}
