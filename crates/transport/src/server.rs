//! The enclave's end: accepts connections and serves each in a task.

use std::sync::Arc;
use std::time::Duration;

use cloister_contract::ErrorChain;
use cloister_protocol::Rejection;
use cloister_protocol::frame::{HEADER_LEN, Hello, HelloReply, MAX_EXTENSIONS_LEN, Purpose};
use cloister_protocol::limits::{MAX_IN_FLIGHT, MAX_QUEUED, REQUEST_DEADLINE};
use cloister_protocol::message::Request;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::binding::{Binding, Newcomers, Strangers};
use crate::budget::ByteBudget;
use crate::connection::{Room, serve_requests};
use crate::exchange::{read_frame_of, write_frame};
use crate::{Deadlines, EgressPool, Listener, Stage, Stream, TransportError};

/// Carries out one request.
pub trait Handler: Send + Sync + 'static {
    /// The JSON result, or a rejection. A panic is answered `internal`; a request that takes
    /// longer than [`Limits::request`] is dropped at its next await point and answered
    /// `deadline_exceeded`.
    fn handle(&self, request: Request) -> impl Future<Output = Result<Vec<u8>, Rejection>> + Send;
}

/// Limits of a server. The default is [`cloister_protocol::limits`], the ceiling of every
/// deployment, with the byte budget of this machine.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For reading and writing.
    pub deadlines: Deadlines,
    /// For carrying out one request.
    pub request: Duration,
    /// Requests in flight on one connection; further ones stay unread.
    pub in_flight: usize,
    /// Requests in flight on all connections; a further one is answered `busy` at once. The pod's
    /// own questions have places of theirs.
    pub queued: usize,
    /// Bytes of the requests in flight on all connections; a request over budget is answered `busy`
    /// once its header has arrived.
    pub bytes: ByteBudget,
    /// Connections of the session; a further one is closed at once.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadlines: Deadlines::default(),
            request: REQUEST_DEADLINE,
            in_flight: MAX_IN_FLIGHT,
            queued: MAX_QUEUED,
            bytes: ByteBudget::of_available_memory(),
            connections: MAX_CONNECTIONS,
        }
    }
}

/// Serves the connections of one session, that of the first hello: requests go to the handler,
/// egress connections to the pool. Other connections are closed.
#[derive(Debug)]
pub struct Server<H> {
    handler: Arc<H>,
    egress: EgressPool,
    limits: Limits,
    room: Arc<Room>,
    connections: Arc<Semaphore>,
    door: Arc<Door>,
}

/// Connections until they belong to the session, and the session.
#[derive(Debug, Default)]
struct Door {
    binding: Binding,
    newcomers: Newcomers,
    strangers: Strangers,
}

impl<H> Clone for Server<H> {
    fn clone(&self) -> Self {
        Self {
            handler: self.handler.clone(),
            egress: self.egress.clone(),
            limits: self.limits.clone(),
            room: self.room.clone(),
            connections: self.connections.clone(),
            door: self.door.clone(),
        }
    }
}

impl<H: Handler> Server<H> {
    /// A server within the limits of the protocol.
    pub fn new(handler: Arc<H>, egress: EgressPool) -> Self {
        Self::with_limits(handler, egress, Limits::default())
    }

    /// A server within other, lower limits.
    pub fn with_limits(handler: Arc<H>, egress: EgressPool, limits: Limits) -> Self {
        Self {
            handler,
            egress,
            room: Arc::new(Room::new(&limits)),
            connections: Arc::new(Semaphore::new(limits.connections)),
            limits,
            door: Arc::default(),
        }
    }

    /// Accepts connections until `shutdown`, then waits until every request in flight is answered.
    /// Accepting never waits for a connection that is already open.
    pub async fn run(self, listener: Listener, shutdown: CancellationToken) {
        let open = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    // For example out of descriptors: an immediate retry would fail again.
                    tracing::warn!(error = %ErrorChain(&error), "accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let newcomer = self.door.newcomers.arrive();
            let server = self.clone();
            let shutdown = shutdown.clone();
            open.spawn(async move {
                match newcomer.wait_for(server.admit(stream)).await {
                    Ok(Some((stream, purpose))) => server.serve(stream, purpose, &shutdown).await,
                    Ok(None) => {}
                    Err(error) => server.door.strangers.count(&error),
                }
            });
        }
        open.close();
        open.wait().await;
    }

    /// Serves one connection until the peer closes it or `shutdown`; an egress connection is handed
    /// to the pool.
    ///
    /// # Errors
    /// [`TransportError`] if the connection does not belong to the session, the peer broke the
    /// protocol or the connection failed.
    pub async fn serve_connection(
        &self,
        stream: Stream,
        shutdown: &CancellationToken,
    ) -> Result<(), TransportError> {
        match self.admit(stream).await? {
            Some((stream, purpose)) => self.serve_admitted(stream, purpose, shutdown).await,
            None => Ok(()),
        }
    }

    /// Reads the hello of a connection and replies; `None` if the peer closed it without a word.
    async fn admit(&self, mut stream: Stream) -> Result<Option<(Stream, Purpose)>, TransportError> {
        let greeting = async {
            let deadlines = self.limits.deadlines;
            let Some(hello) = read_frame_of(&mut stream, deadlines, MAX_HELLO_LEN).await? else {
                return Ok(None);
            };
            let Hello { purpose, session } = Hello::decode(&hello)?;
            let admitted = self.door.binding.admit(session);
            let reply = match admitted {
                Ok(()) => HelloReply::Accepted,
                Err(_) => HelloReply::OtherSession,
            };
            write_frame(&mut stream, &reply.frame(), deadlines).await?;
            admitted.map(|()| Some(purpose))
        };
        // One deadline for all of it: a connection without a hello has no claim to those of frames.
        let purpose = timeout(self.limits.deadlines.header, greeting)
            .await
            .unwrap_or(Err(TransportError::TimedOut(Stage::Hello)))?;
        Ok(purpose.map(|purpose| (stream, purpose)))
    }

    async fn serve(&self, stream: Stream, purpose: Purpose, shutdown: &CancellationToken) {
        let Ok(_permit) = self.connections.try_acquire() else {
            tracing::warn!("too many connections");
            return;
        };
        if let Err(error) = self.serve_admitted(stream, purpose, shutdown).await {
            tracing::warn!(error = %ErrorChain(&error), "connection closed");
        }
    }

    async fn serve_admitted(
        &self,
        stream: Stream,
        purpose: Purpose,
        shutdown: &CancellationToken,
    ) -> Result<(), TransportError> {
        match purpose {
            Purpose::Requests => {
                serve_requests(stream, &self.handler, &self.limits, &self.room, shutdown).await
            }
            Purpose::Egress => {
                self.egress.offer(stream);
                Ok(())
            }
        }
    }
}

/// Open connections of the session. A pod needs one, and a moment's worth of egress connections.
const MAX_CONNECTIONS: usize = 256;
/// Longest hello, in bytes: header, extensions, purpose and session. Nothing else has been counted
/// when it is read.
const MAX_HELLO_LEN: usize = HEADER_LEN + MAX_EXTENSIONS_LEN + 64;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
