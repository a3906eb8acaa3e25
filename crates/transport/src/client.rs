//! The pod's end of the multiplexed connection to the enclave, which is opened when it is needed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cloister_contract::ErrorChain;
use cloister_protocol::frame::{Frame, HEADER_LEN, Kind, Purpose};
use cloister_protocol::limits::{MAX_FRAME_LEN, MAX_IN_FLIGHT, REQUEST_DEADLINE};
use cloister_protocol::message::{Request, decode_response};
use cloister_protocol::{Code, Rejection};
use tokio::io::AsyncRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::codec::{Arrival, FrameReader};
use crate::connection::is_control;
use crate::outgoing::write_frames;
use crate::{Address, Deadlines, Session, Stage, TransportError};

/// Calls an enclave. Clones share one connection, which is opened by the first call and again by
/// the first call after it died. A call is sent at most once: whether to repeat one is the caller's
/// decision.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    address: Address,
    session: Session,
    permits: Arc<Semaphore>,
    link: tokio::sync::Mutex<Link>,
}

#[derive(Debug, Default)]
struct Link {
    connection: Option<Arc<Connection>>,
    failed: Option<(Instant, Rejection)>,
}

impl Client {
    /// A client of the enclave at `address`, within `session`; nothing is connected yet.
    pub fn new(address: Address, session: Session) -> Self {
        Self(Arc::new(Shared {
            address,
            session,
            permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT - CONTROL_RESERVE)),
            link: tokio::sync::Mutex::default(),
        }))
    }

    /// The JSON result of `request`. Dropping the future abandons the call; the enclave may still
    /// carry it out.
    ///
    /// # Errors
    /// The enclave's rejection; [`Code::EnclaveUnavailable`] if there is no connection or it died
    /// before the answer; [`Code::DeadlineExceeded`] after [`REQUEST_DEADLINE`];
    /// [`Code::BodyTooLarge`] if the request does not fit into a frame.
    pub async fn call(&self, request: Request) -> Result<Bytes, Rejection> {
        self.call_within(request, REQUEST_DEADLINE).await
    }

    /// [`Client::call`] with another deadline.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_within(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<Bytes, Rejection> {
        timeout(deadline, self.exchange(request))
            .await
            .unwrap_or_else(|_| {
                Err(Rejection::new(
                    Code::DeadlineExceeded,
                    "the enclave did not answer in time",
                ))
            })
    }

    async fn exchange(&self, request: Request) -> Result<Bytes, Rejection> {
        // A question about the enclave's health must not wait behind the work that it is about.
        let permit = if is_control(request.operation) {
            None
        } else {
            Some(
                self.0
                    .permits
                    .clone()
                    .acquire_owned()
                    .await
                    .expect("the semaphore is never closed"),
            )
        };
        let connection = self.connection().await?;
        // The place in the queue comes first, and from there on nothing is awaited before the frame
        // is in it: a call that is dropped on the way leaves nothing behind.
        let place = connection
            .outgoing
            .reserve()
            .await
            .map_err(|_| unavailable())?;
        // Encoding copies the request, so that it comes last: no request that waits is held twice.
        let body = request.encode();
        drop(request);
        if HEADER_LEN + body.len() > MAX_FRAME_LEN {
            return Err(Rejection::new(
                Code::BodyTooLarge,
                "the request is too large",
            ));
        }
        let (id, answer) = connection.pending.add(permit).ok_or_else(unavailable)?;
        let frame = Frame {
            kind: Kind::Request,
            id,
            body,
        };
        place.send((frame, ()));
        decode_response(answer.await.map_err(|_| unavailable())?)
    }

    /// The connection, opened if need be by one call for all that wait for it.
    async fn connection(&self) -> Result<Arc<Connection>, Rejection> {
        let arrived = Instant::now();
        let mut link = self.0.link.lock().await;
        if let Some(connection) = &link.connection
            && !connection.outgoing.is_closed()
        {
            return Ok(connection.clone());
        }
        link.connection = None;
        // A call that waited while another one failed to connect shares that failure instead of
        // trying again.
        if let Some((at, rejection)) = &link.failed
            && *at >= arrived
        {
            return Err(rejection.clone());
        }
        match Connection::open(&self.0.address, &self.0.session).await {
            Ok(connection) => {
                tracing::info!(enclave = %self.0.address, "connected");
                let connection = Arc::new(connection);
                link.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                tracing::debug!(enclave = %self.0.address, error = %ErrorChain(&error), "failed to connect");
                let rejection = match error {
                    TransportError::OtherSession => bound_elsewhere(),
                    _ => unavailable(),
                };
                link.failed = Some((Instant::now(), rejection.clone()));
                Err(rejection)
            }
        }
    }
}

fn unavailable() -> Rejection {
    Rejection::new(Code::EnclaveUnavailable, "the enclave cannot be reached")
}

fn bound_elsewhere() -> Rejection {
    Rejection::new(
        Code::EnclaveUnavailable,
        "the enclave is bound to another session",
    )
}

/// Lives as long as the client or a call holds it; the task behind it ends then, or when the peer
/// goes.
#[derive(Debug)]
struct Connection {
    outgoing: mpsc::Sender<(Frame, ())>,
    pending: Arc<Pending>,
}

impl Connection {
    async fn open(address: &Address, session: &Session) -> Result<Self, TransportError> {
        let deadlines = Deadlines::default();
        let stream = session.connect(address, Purpose::Requests).await?;
        let (read, write) = tokio::io::split(stream);
        let (outgoing, queue) = mpsc::channel(MAX_IN_FLIGHT);
        let pending = Arc::new(Pending::new());
        let calls = pending.clone();
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = read_answers(FrameReader::new(read, deadlines), &calls) => ended,
                ended = write_frames(write, queue, deadlines) => ended,
                error = calls.stalled(STALL_DEADLINE) => Err(error),
            };
            calls.close();
            match ended {
                Ok(()) => tracing::info!("connection to the enclave closed"),
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "connection to the enclave lost");
                }
            }
        });
        Ok(Self { outgoing, pending })
    }
}

async fn read_answers<R: AsyncRead + Unpin>(
    mut frames: FrameReader<R>,
    pending: &Pending,
) -> Result<(), TransportError> {
    while let Some(arrival) = frames.next().await? {
        let Arrival::Frame(frame, _) = arrival else {
            return Err(TransportError::Violation("an answer over budget"));
        };
        if frame.kind != Kind::Response {
            return Err(TransportError::Violation("not a response"));
        }
        let call = pending.remove(frame.id).ok_or(TransportError::Violation(
            "a response to an unknown request",
        ))?;
        // An error means that the call was abandoned.
        let _ = call.answer.send(frame.body);
    }
    Ok(())
}

/// The calls that have been sent and not answered. An abandoned one stays until its answer comes:
/// the enclave works on it.
#[derive(Debug)]
struct Pending {
    /// `None` once the connection is gone. Ids ascend, so the first is the oldest.
    calls: Mutex<Option<BTreeMap<u64, Call>>>,
    last_id: AtomicU64,
}

#[derive(Debug)]
struct Call {
    answer: oneshot::Sender<Bytes>,
    sent_at: Instant,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Pending {
    fn new() -> Self {
        Self {
            calls: Mutex::new(Some(BTreeMap::new())),
            last_id: AtomicU64::new(0),
        }
    }

    fn add(&self, permit: Option<OwnedSemaphorePermit>) -> Option<(u64, oneshot::Receiver<Bytes>)> {
        let (answer, answered) = oneshot::channel();
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        self.calls().as_mut()?.insert(
            id,
            Call {
                answer,
                sent_at: Instant::now(),
                _permit: permit,
            },
        );
        Some((id, answered))
    }

    fn remove(&self, id: u64) -> Option<Call> {
        self.calls().as_mut()?.remove(&id)
    }

    /// Drops every call, which tells those who wait that no answer comes.
    fn close(&self) {
        self.calls().take();
    }

    /// Returns when the oldest call is overdue. An enclave answers everything, if only with
    /// `deadline_exceeded`; one that does not has lost its connection's other end.
    async fn stalled(&self, deadline: Duration) -> TransportError {
        loop {
            sleep(deadline / 8).await;
            let oldest = self
                .calls()
                .as_ref()
                .and_then(|calls| calls.values().next().map(|call| call.sent_at));
            if oldest.is_some_and(|sent_at| sent_at.elapsed() > deadline) {
                return TransportError::TimedOut(Stage::Answer);
            }
        }
    }

    /// The map is whole whatever panicked meanwhile.
    fn calls(&self) -> std::sync::MutexGuard<'_, Option<BTreeMap<u64, Call>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Age of the oldest unanswered request at which its connection is given up.
const STALL_DEADLINE: Duration = REQUEST_DEADLINE.saturating_mul(2);
/// Of the requests in flight, how many are kept free for control messages.
const CONTROL_RESERVE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_whose_oldest_call_is_overdue_has_stalled() {
        let pending = Pending::new();
        let short = Duration::from_millis(40);
        assert!(
            timeout(2 * short, pending.stalled(short)).await.is_err(),
            "nothing is overdue"
        );
        let (oldest, _answered) = pending.add(None).unwrap();
        let (_newer, _answered) = pending.add(None).unwrap();
        assert!(matches!(
            pending.stalled(short).await,
            TransportError::TimedOut(Stage::Answer)
        ));
        pending.remove(oldest).unwrap();
        pending.close();
        assert!(pending.add(None).is_none());
    }
}
