//! Outgoing streams of an enclave, each over one connection that the pod opened.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloister_contract::ErrorChain;
use cloister_protocol::frame::{ConnectReply, Frame, Kind};
use futures_util::FutureExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::{Deadlines, Stream, TransportError, read_frame, write_frame};

/// The idle egress connections of an enclave. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct EgressPool(Arc<Pool>);

#[derive(Debug, Default)]
struct Pool {
    idle: Mutex<VecDeque<Stream>>,
    offered: Notify,
}

impl EgressPool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a connection that a pod opened for egress. If there are too many, the oldest is dropped:
    /// those of a pod that has ended are older than those of its successor.
    pub fn offer(&self, stream: Stream) {
        let mut idle = self.idle();
        idle.push_back(stream);
        if idle.len() > MAX_IDLE {
            idle.pop_front();
        }
        drop(idle);
        self.0.offered.notify_one();
    }

    /// A raw byte stream to `host:port`, dialled by the pod. TLS is for the caller to add: the pod
    /// can read and change what travels.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] when the pod does not allow the destination,
    /// [`io::ErrorKind::HostUnreachable`] when it could not be reached,
    /// [`io::ErrorKind::ResourceBusy`] when the pod has too many streams,
    /// [`io::ErrorKind::TimedOut`] when there was no connection or no reply in time.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<Stream> {
        let destination = Frame::control(Kind::Connect, format!("{host}:{port}"));
        timeout(CONNECT_DEADLINE, self.connect_to(&destination))
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no egress connection from the pod in time",
                ))
            })
    }

    async fn connect_to(&self, destination: &Frame) -> io::Result<Stream> {
        loop {
            let mut stream = self.take().await;
            match ask(&mut stream, destination).await {
                Ok(ConnectReply::Connected) => return Ok(stream),
                Ok(ConnectReply::NotAllowed) => {
                    return Err(io::Error::new(
                        io::ErrorKind::PermissionDenied,
                        "the pod does not allow this destination",
                    ));
                }
                Ok(ConnectReply::Unreachable) => {
                    return Err(io::Error::new(
                        io::ErrorKind::HostUnreachable,
                        "the pod cannot reach this destination",
                    ));
                }
                Ok(ConnectReply::TooManyStreams) => {
                    return Err(io::Error::new(
                        io::ErrorKind::ResourceBusy,
                        "the pod has too many streams open",
                    ));
                }
                // The connection had died, which shows only now. Nothing reached the destination:
                // take another one.
                Err(error) => {
                    tracing::debug!(error = %ErrorChain(&error), "egress connection discarded")
                }
            }
        }
    }

    /// The newest connection that is still open, waiting for one if there is none.
    async fn take(&self) -> Stream {
        loop {
            let newest = self.idle().pop_back();
            let Some(mut stream) = newest else {
                self.0.offered.notified().await;
                continue;
            };
            if is_silent(&mut stream) {
                return stream;
            }
        }
    }

    /// A queue of streams is whole whatever panicked meanwhile.
    fn idle(&self) -> std::sync::MutexGuard<'_, VecDeque<Stream>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True while an idle connection is open and has nothing to read.
fn is_silent(stream: &mut Stream) -> bool {
    stream.read(&mut [0]).now_or_never().is_none()
}

async fn ask(stream: &mut Stream, destination: &Frame) -> Result<ConnectReply, TransportError> {
    write_frame(stream, destination, Deadlines::default()).await?;
    let reply = read_frame(stream, Deadlines::with_idle(CONNECT_DEADLINE))
        .await?
        .ok_or(TransportError::Truncated)?;
    if reply.kind != Kind::Connected || reply.id != 0 {
        return Err(TransportError::Violation("not a reply to connect"));
    }
    Ok(ConnectReply::decode(&reply.body)?)
}

/// Most idle connections kept.
const MAX_IDLE: usize = 64;
/// Time for an outgoing stream to be opened: the pod's own connect timeout and some.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
