//! Offers connections to the enclave and serves those it uses.

use std::sync::Arc;
use std::time::Duration;

use cloister_contract::{ErrorChain, events};
use cloister_protocol::frame::{ConnectReply, Frame, Kind, Purpose};
use cloister_transport::{
    Address, Deadlines, Session, Stream, TransportError, read_frame, write_frame,
};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::Connection;
use crate::counters::{Cut, Refusal};
use crate::dial::Dialer;
use crate::relay::{End, relay};
use crate::{AllowList, Counters};

/// Limits of the egress of a pod.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections kept idle for the enclave: how many streams it can open without waiting for a
    /// new one.
    pub idle: usize,
    /// Streams open at once.
    pub streams: usize,
    /// For resolving a name and connecting. Less than the enclave waits, so that it hears the
    /// reason.
    pub connect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: 4,
            streams: 256,
            connect: Duration::from_secs(3),
        }
    }
}

/// The way out of one enclave.
#[derive(Clone, Debug)]
pub struct Egress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    enclave: Address,
    session: Session,
    allow: AllowList,
    limits: Limits,
    room: Arc<Semaphore>,
    dialer: Dialer,
    counters: Counters,
}

impl Egress {
    /// A way from the enclave at `enclave`, within `session`, to what `allow` lists.
    pub fn new(enclave: Address, session: Session, allow: AllowList, limits: Limits) -> Self {
        let room = Arc::new(Semaphore::new(limits.streams));
        let (dialer, counters) = <(Dialer, Counters)>::default();
        Self(Arc::new(Shared {
            enclave,
            session,
            allow,
            limits,
            room,
            dialer,
            counters,
        }))
    }

    /// The counters so far.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Keeps connections on offer and passes bytes until `shutdown`, which closes all of them. An
    /// enclave that is not there, or goes away, is tried again and again.
    pub async fn run(&self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        for _ in 0..self.0.limits.idle {
            let offering = self.clone().offer(tasks.clone(), shutdown.clone());
            tasks.spawn(shutdown.clone().run_until_cancelled_owned(offering));
        }
        shutdown.cancelled().await;
        tasks.close();
        tasks.wait().await;
    }

    /// Keeps one connection on offer; as soon as it is used, another one.
    async fn offer(self, tasks: TaskTracker, shutdown: CancellationToken) {
        loop {
            match self.wait_until_used().await {
                Ok(Some((stream, asked))) => {
                    let serving = self.clone().serve(stream, asked);
                    tasks.spawn(shutdown.clone().run_until_cancelled_owned(serving));
                    continue;
                }
                Ok(None) => tracing::debug!("the enclave closed an idle egress connection"),
                Err(error) => {
                    tracing::debug!(error = %ErrorChain(&error), "no egress connection to the enclave");
                }
            }
            sleep(RECONNECT_PAUSE).await;
        }
    }

    /// A connection on which the enclave has asked for a destination; `None` when it closed it
    /// instead.
    async fn wait_until_used(&self) -> Result<Option<(Stream, Frame)>, TransportError> {
        let enclave = &self.0.enclave;
        let mut stream = self.0.session.connect(enclave, Purpose::Egress).await?;
        // Idling is what this connection is for.
        let asked = read_frame(&mut stream, Deadlines::with_idle(Duration::MAX)).await?;
        Ok(asked.map(|frame| (stream, frame)))
    }

    async fn serve(self, mut stream: Stream, asked: Frame) {
        if let Err(error) = self.serve_stream(&mut stream, &asked).await {
            tracing::debug!(error = %ErrorChain(&error), "egress stream ended");
        }
    }

    async fn serve_stream(&self, stream: &mut Stream, asked: &Frame) -> Result<(), TransportError> {
        if asked.kind != Kind::Connect || asked.id != 0 {
            return Err(TransportError::Violation("not a destination"));
        }
        let counters = &self.0.counters;
        counters.accepted();
        // Held until the stream has ended.
        let room = self.0.room.clone().try_acquire_owned();
        let _place = counters.place();
        let opened = match &room {
            Ok(_) => self.open(&asked.body).await,
            Err(_) => Err(ConnectReply::TooManyStreams),
        };
        let reply = opened
            .as_ref()
            .err()
            .copied()
            .unwrap_or(ConnectReply::Connected);
        match reply {
            ConnectReply::Connected => counters.opened(),
            ConnectReply::Unreachable => counters.failed(),
            ConnectReply::NotAllowed => counters.refused(Refusal::Destination),
            ConnectReply::TooManyStreams => counters.refused(Refusal::Limit),
        }
        if opened.is_err() {
            tracing::warn!(
                event = events::EGRESS_REFUSED,
                destination = %printable(&asked.body),
                ?reply,
                "egress refused"
            );
        }
        write_frame(
            stream,
            &Frame::control(Kind::Connected, vec![reply as u8]),
            Deadlines::default(),
        )
        .await?;
        if let Ok(mut destination) = opened {
            match relay(stream, &mut destination, counters, None).await {
                End::Closed | End::Idle => {}
                End::Unread(error) => {
                    counters.cut(Cut::Broken);
                    tracing::debug!(error = %ErrorChain(&error), "one side of an egress stream stopped reading");
                }
                End::Broken(error) => {
                    counters.cut(Cut::Broken);
                    Connection::from(destination).abort();
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    async fn open(&self, asked: &[u8]) -> Result<TcpStream, ConnectReply> {
        let asked = std::str::from_utf8(asked).map_err(|_| ConnectReply::NotAllowed)?;
        let target = self.0.allow.target(asked).ok_or(ConnectReply::NotAllowed)?;
        self.0
            .dialer
            .connect_tcp(target, self.0.limits.connect)
            .await
            .map_err(|error| {
                tracing::warn!(
                    event = events::EGRESS_UNREACHABLE,
                    destination = %target,
                    error = %ErrorChain(&error),
                    "failed to connect"
                );
                ConnectReply::Unreachable
            })
    }
}

/// A destination that was not checked, for the log.
fn printable(asked: &[u8]) -> String {
    asked
        .iter()
        .take(300)
        .flat_map(|byte| byte.escape_ascii())
        .map(char::from)
        .collect()
}

/// Pause before a connection that was lost or refused is tried again. The enclave is on the same
/// machine.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
