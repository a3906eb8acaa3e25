//! The enclave's end of a multiplexed connection.

use std::collections::HashSet;
use std::num::NonZero;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use cloister_protocol::frame::{Frame, HEADER_LEN, Kind};
use cloister_protocol::limits::MAX_FRAME_LEN;
use cloister_protocol::message::{Request, encode_response};
use cloister_protocol::{Code, Operation, Rejection};
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::budget::{ByteBudget, Charge, over_budget};
use crate::codec::{Arrival, FrameReader};
use crate::outgoing::write_frames;
use crate::turns::in_turn;
use crate::{Handler, Limits, TransportError};

/// The places and the memory of a server, shared by all its connections.
#[derive(Debug)]
pub(crate) struct Room {
    /// Places for work.
    work: Arc<Semaphore>,
    /// Places for the pod's own questions, which work cannot take.
    control: Arc<Semaphore>,
    /// Steps of work that may be ready at once.
    turns: Semaphore,
    bytes: ByteBudget,
}

impl Room {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            work: Arc::new(Semaphore::new(limits.queued)),
            control: Arc::new(Semaphore::new(CONTROL_PLACES)),
            turns: Semaphore::new(available_parallelism().map_or(1, NonZero::get)),
            bytes: limits.bytes.clone(),
        }
    }

    fn admit(&self, operation: Operation) -> Result<OwnedSemaphorePermit, Rejection> {
        let places = if is_control(operation) {
            &self.control
        } else {
            &self.work
        };
        places
            .clone()
            .try_acquire_owned()
            .map_err(|_| Rejection::new(Code::Busy, "too many requests are waiting; try again"))
    }
}

/// The pod's own questions: about health, and what makes an enclave ready. They have to be answered
/// while callers' requests wait.
pub(crate) fn is_control(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Health | Operation::Configure | Operation::OpenCanary
    )
}

/// Answers requests until the peer closes its half or `shutdown`; what is in flight then is still
/// answered.
pub(crate) async fn serve_requests<S, H>(
    stream: S,
    handler: &Arc<H>,
    limits: &Limits,
    room: &Arc<Room>,
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
        frames: FrameReader::with_budget(read, limits.deadlines, room.bytes.clone()),
        handler,
        deadline: limits.request,
        room,
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
    deadline: Duration,
    room: &'a Arc<Room>,
    permits: Arc<Semaphore>,
    /// Of the requests in flight.
    ids: Arc<Mutex<HashSet<u64>>>,
    answers: mpsc::Sender<(Frame, Held)>,
}

/// The place and the memory of a request, held until its answer has been written.
type Held = (Option<OwnedSemaphorePermit>, Option<Charge>);

impl<R: AsyncRead + Unpin, H: Handler> Requests<'_, R, H> {
    async fn read(mut self, shutdown: &CancellationToken) -> Result<(), TransportError> {
        loop {
            let permit = self
                .permits
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let arrival = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                arrival = self.frames.next() => arrival?,
            };
            let (kind, id, body) = match arrival {
                None => return Ok(()),
                Some(Arrival::Frame(Frame { kind, id, body }, charge)) => {
                    (kind, id, Ok((body, charge)))
                }
                Some(Arrival::OverBudget { kind, id }) => (kind, id, Err(over_budget())),
            };
            if kind != Kind::Request || id == 0 {
                return Err(TransportError::Violation("not a request"));
            }
            if !lock(&self.ids).insert(id) {
                return Err(TransportError::Violation("the request id is in use"));
            }
            let admitted = body.and_then(|(body, charge)| {
                let request = Request::decode(body)?;
                let place = self.room.admit(request.operation)?;
                Ok((request, place, charge))
            });
            let answers = self.answers.clone();
            let ids = self.ids.clone();
            match admitted {
                Err(rejection) => {
                    lock(&ids).remove(&id);
                    // An error means that writing failed, which ends the connection by itself.
                    let _ = answers
                        .send((answer(id, &Err(rejection)), (None, None)))
                        .await;
                }
                Ok((request, place, charge)) => {
                    let handler = self.handler.clone();
                    let room = self.room.clone();
                    let deadline = self.deadline;
                    tokio::spawn(async move {
                        let outcome = carry_out(handler, request, &room.turns, deadline).await;
                        lock(&ids).remove(&id);
                        let held = (Some(place), charge);
                        // An error means that the connection, and with it the caller, is gone.
                        let _ = answers.send((answer(id, &outcome), held)).await;
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
    turns: &Semaphore,
    deadline: Duration,
) -> Result<Vec<u8>, Rejection> {
    let operation = request.operation;
    let work = AssertUnwindSafe(async { handler.handle(request).await }).catch_unwind();
    let work = async {
        if is_control(operation) {
            work.await
        } else {
            in_turn(turns, work).await
        }
    };
    match timeout(deadline, work).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => {
            // The value of the panic may hold anything; the panic hook decides how much of it is
            // logged.
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

/// A panic elsewhere leaves the set valid.
fn lock(ids: &Mutex<HashSet<u64>>) -> std::sync::MutexGuard<'_, HashSet<u64>> {
    ids.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Control requests in flight over all connections. A pod has one or two.
const CONTROL_PLACES: usize = 32;
