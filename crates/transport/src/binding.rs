//! The session that a boot of an enclave is bound to: the enclave's end of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cloister_contract::{ErrorChain, events};
use cloister_protocol::SessionValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::TransportError;

/// The session of a boot: that of its first hello. It never changes.
#[derive(Debug, Default)]
pub(crate) struct Binding(OnceLock<SessionValue>);

impl Binding {
    /// Compares a hello's session with that of the boot, which the first one determines.
    pub(crate) fn admit(&self, session: SessionValue) -> Result<(), TransportError> {
        let offered = session.clone();
        let bound = self.0.get_or_init(|| {
            tracing::info!(
                event = events::ENCLAVE_BOUND,
                "the first connection of this boot binds it"
            );
            session
        });
        if bound.matches(&offered) {
            Ok(())
        } else {
            Err(TransportError::OtherSession)
        }
    }
}

/// Connections whose hello has not arrived. They have room of their own, and the oldest makes room
/// for one too many: whoever says nothing keeps nobody out.
#[derive(Debug, Default)]
pub(crate) struct Newcomers(Arc<Mutex<Arrived>>);

#[derive(Debug, Default)]
struct Arrived {
    count: u64,
    waiting: BTreeMap<u64, CancellationToken>,
}

impl Newcomers {
    /// Registers a connection until the result is dropped.
    pub(crate) fn arrive(&self) -> Newcomer {
        let mut arrived = lock(&self.0);
        arrived.count += 1;
        let (number, displaced) = (arrived.count, CancellationToken::new());
        arrived.waiting.insert(number, displaced.clone());
        if arrived.waiting.len() > MAX_NEWCOMERS
            && let Some((_, oldest)) = arrived.waiting.pop_first()
        {
            oldest.cancel();
        }
        Newcomer {
            all: self.0.clone(),
            number,
            displaced,
        }
    }
}

/// A connection whose hello has not arrived.
#[derive(Debug)]
pub(crate) struct Newcomer {
    all: Arc<Mutex<Arrived>>,
    number: u64,
    displaced: CancellationToken,
}

impl Newcomer {
    /// Waits for `hello`, unless newer connections displace this one.
    pub(crate) async fn wait_for<T>(
        self,
        hello: impl Future<Output = Result<T, TransportError>>,
    ) -> Result<T, TransportError> {
        self.displaced
            .run_until_cancelled(hello)
            .await
            .unwrap_or(Err(TransportError::Displaced))
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        lock(&self.all).waiting.remove(&self.number);
    }
}

/// Reports connections that do not belong to the session: the first at once, further ones together,
/// so that a stranger does not flood the log.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<Tally>);

#[derive(Debug, Default)]
struct Tally {
    reported: Option<Instant>,
    connections: u64,
}

impl Strangers {
    /// Counts a connection that was closed because of `error`.
    pub(crate) fn count(&self, error: &TransportError) {
        let reason = match error {
            // A pod that ended resets its connections.
            TransportError::Io(_) => return,
            TransportError::OtherSession => "other_session",
            TransportError::Displaced => "displaced",
            _ => "no_hello",
        };
        if let Some(connections) = self.due(Instant::now()) {
            tracing::warn!(
                event = events::SESSION_MISMATCH,
                reason,
                connections,
                error = %ErrorChain(error),
                "closed a connection of another process than the pod"
            );
        }
    }

    /// The number of connections since the last report, if another report is due.
    fn due(&self, now: Instant) -> Option<u64> {
        let mut tally = lock(&self.0);
        tally.connections += 1;
        let due = tally
            .reported
            .is_none_or(|reported| now.duration_since(reported) >= REPORT_INTERVAL);
        due.then(|| {
            tally.reported = Some(now);
            std::mem::take(&mut tally.connections)
        })
    }
}

/// A panic elsewhere leaves the numbers valid.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pod sends its hello as soon as it is connected, and connects to a few at a time.
const MAX_NEWCOMERS: usize = 64;
/// Time between two reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_rare_and_complete() {
        let strangers = Strangers::default();
        let start = Instant::now();
        assert_eq!(strangers.due(start), Some(1), "the first one at once");
        for _ in 0..1000 {
            assert_eq!(strangers.due(start + REPORT_INTERVAL / 2), None);
        }
        assert_eq!(strangers.due(start + REPORT_INTERVAL), Some(1001));
        assert_eq!(strangers.due(start + REPORT_INTERVAL), None);
    }

    #[tokio::test]
    async fn the_oldest_newcomer_makes_room() {
        let newcomers = Newcomers::default();
        let oldest = newcomers.arrive();
        let mut others: Vec<_> = (0..MAX_NEWCOMERS).map(|_| newcomers.arrive()).collect();
        assert!(oldest.displaced.is_cancelled());
        let waited = oldest.wait_for(std::future::pending::<Result<(), _>>());
        assert!(matches!(waited.await, Err(TransportError::Displaced)));

        drop(others.pop());
        others.push(newcomers.arrive());
        assert!(
            others.iter().all(|other| !other.displaced.is_cancelled()),
            "one that left makes room, too"
        );
        drop(others);
        assert!(lock(&newcomers.0).waiting.is_empty());
    }
}
