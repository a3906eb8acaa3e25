//! Takes connections at one address and passes each on to another.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cloister_contract::ErrorChain;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{Connection, Listener};
use crate::counters::{Cut, Refusal};
use crate::dial::Dialer;
use crate::relay::{End, relay};
use crate::{ConnectAddress, Counters, ListenAddress};

/// Limits and deadlines of a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardLimits {
    /// Connections at once; more are refused.
    pub connections: usize,
    /// For resolving a name and connecting.
    pub connect: Duration,
    /// A connection on which nothing passes for so long is closed; `None` leaves that to its two
    /// ends.
    pub idle: Option<Duration>,
    /// For open connections to end by themselves when the forward is stopped.
    pub drain: Duration,
}

impl Default for ForwardLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connect: Duration::from_secs(3),
            idle: None,
            drain: Duration::from_secs(30),
        }
    }
}

/// A way from one address to another.
#[derive(Clone, Debug)]
pub struct Forward {
    listen: ListenAddress,
    connect: ConnectAddress,
    limits: ForwardLimits,
    sources: Option<BTreeSet<u32>>,
}

impl Forward {
    /// Passes connections made to `listen` on to `connect`.
    pub fn new(listen: ListenAddress, connect: ConnectAddress, limits: ForwardLimits) -> Self {
        Self {
            listen,
            connect,
            limits,
            sources: None,
        }
    }

    /// Refuses connections that do not come, over vsock, from one of these context ids. It keeps
    /// other enclaves of the same parent out; a context id does not authenticate.
    #[must_use]
    pub fn only_from(self, context_ids: impl IntoIterator<Item = u32>) -> Self {
        Self {
            sources: Some(context_ids.into_iter().collect()),
            ..self
        }
    }

    /// Listens. Connections are taken once the forward runs.
    ///
    /// # Errors
    /// Those of the operating system when it cannot listen there.
    pub async fn bind(self) -> io::Result<BoundForward> {
        let (listener, address) = Listener::bind(self.listen.clone()).await?;
        let room = Arc::new(Semaphore::new(self.limits.connections));
        let (dialer, counters, stop) = <(Dialer, Counters, CancellationToken)>::default();
        Ok(BoundForward {
            listener,
            address,
            room,
            shared: Arc::new(Shared {
                forward: self,
                dialer,
                counters,
                stop,
            }),
        })
    }

    /// Listens and passes connections on until `shutdown`; see [`BoundForward::run`].
    ///
    /// # Errors
    /// Those of [`Forward::bind`].
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        self.bind().await?.run(shutdown).await;
        Ok(())
    }

    fn admits(&self, source: Option<u32>) -> bool {
        self.sources
            .as_ref()
            .is_none_or(|sources| source.is_some_and(|source| sources.contains(&source)))
    }
}

/// A forward that listens.
#[derive(Debug)]
pub struct BoundForward {
    listener: Listener,
    address: ListenAddress,
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
}

/// The state that the connections of a forward share.
#[derive(Debug)]
struct Shared {
    forward: Forward,
    dialer: Dialer,
    counters: Counters,
    /// Ends the connections that are still open.
    stop: CancellationToken,
}

impl BoundForward {
    /// The bound address, in which a port that was left to the system is known.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// The counters so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Passes connections on until `shutdown`; then takes no new ones and returns when the open
    /// ones have ended, or the time to drain is over, which ends them.
    pub async fn run(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let drain = self.shared.forward.limits.drain;
        let stop = self.shared.stop.clone();
        shutdown
            .run_until_cancelled_owned(self.take_connections(&tasks))
            .await;
        tasks.close();
        if timeout(drain, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "the time to drain is over");
            stop.cancel();
            tasks.wait().await;
        }
    }

    /// Owns the listener: dropping this refuses further connections.
    async fn take_connections(self, tasks: &TaskTracker) {
        let mut full = false;
        loop {
            let (connection, source) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Most likely there are no descriptors left, and more only once a connection
                    // has ended.
                    tracing::warn!(listen = %self.address, error = %ErrorChain(&error), "failed to accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            self.shared.counters.accepted();
            if !self.shared.forward.admits(source) {
                tracing::warn!(listen = %self.address, ?source, "refused: the source is not allowed");
                self.shared.counters.refused(Refusal::Source);
                connection.abort();
                continue;
            }
            let Ok(place) = self.room.clone().try_acquire_owned() else {
                if !full {
                    tracing::warn!(listen = %self.address, "refused: too many connections; further refusals are counted");
                }
                full = true;
                self.shared.counters.refused(Refusal::Limit);
                connection.abort();
                continue;
            };
            full = false;
            let shared = self.shared.clone();
            let counted = shared.counters.place();
            tasks.spawn(async move {
                shared.serve(connection).await;
                drop((place, counted));
            });
        }
    }
}

impl Shared {
    async fn serve(&self, mut near: Connection) {
        let Forward {
            connect, limits, ..
        } = &self.forward;
        // Boxed: what dialling needs is not kept as long as the connection.
        let dialling = Box::pin(self.dialer.connect(connect, limits.connect));
        let mut far = match self.stop.run_until_cancelled(dialling).await {
            Some(Ok(far)) => far,
            Some(Err(error)) => {
                tracing::warn!(%connect, error = %ErrorChain(&error), "failed to connect");
                self.counters.failed();
                return near.abort();
            }
            None => {
                self.counters.cut(Cut::Stopped);
                return near.abort();
            }
        };
        self.counters.opened();
        let passing = relay(&mut near, &mut far, &self.counters, limits.idle);
        let cut = match self.stop.run_until_cancelled(passing).await {
            Some(End::Closed) => return,
            Some(End::Unread(error)) => {
                tracing::debug!(%connect, error = %ErrorChain(&error), "one side stopped reading");
                // What the other side said may still be on its way: aborting would take it back.
                return self.counters.cut(Cut::Broken);
            }
            Some(End::Broken(error)) => {
                tracing::debug!(%connect, error = %ErrorChain(&error), "one side broke off");
                Cut::Broken
            }
            Some(End::Idle) => Cut::Idle,
            None => Cut::Stopped,
        };
        self.counters.cut(cut);
        near.abort();
        far.abort();
    }
}

/// Pause after a connection could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_machines_are_admitted() {
        let forward = Forward::new(
            "vsock:any:5000".parse().unwrap(),
            "tcp:kms.test:443".parse().unwrap(),
            ForwardLimits::default(),
        );
        assert!(forward.admits(Some(16)) && forward.admits(Some(17)) && forward.admits(None));
        let forward = forward.only_from([16, 18]);
        assert!(forward.admits(Some(16)) && forward.admits(Some(18)));
        // A path or TCP has no context ids: a filter there admits no connection.
        assert!(!forward.admits(Some(17)) && !forward.admits(None));
        assert!(!forward.only_from([]).admits(Some(16)));
    }
}
