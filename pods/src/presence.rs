//! Whether there is an enclave to talk to, as far as the pod itself sees to that.

use std::future::pending;

use cloister_protocol::{Code, Rejection};
use tokio::sync::watch;

/// Why the enclave that the pod keeps does not run; nothing when it runs. Of one that somebody else
/// keeps nothing is known, and it counts as running.
#[derive(Clone, Debug)]
pub(crate) struct Presence(watch::Receiver<Option<String>>);

impl Presence {
    /// Of an enclave that the pod is yet to start.
    pub(crate) fn of_kept() -> (watch::Sender<Option<String>>, Self) {
        let (sender, receiver) = watch::channel(Some("the enclave is being started".to_owned()));
        (sender, Self(receiver))
    }

    /// Of an enclave that somebody else keeps.
    pub(crate) fn of_foreign() -> Self {
        Self(watch::channel(None).1)
    }

    /// An error that says why, when there is no enclave.
    pub(crate) fn now(&self) -> Result<(), Rejection> {
        self.0.borrow().clone().map_or(Ok(()), |problem| {
            Err(Rejection::new(Code::EnclaveUnavailable, problem))
        })
    }

    /// Waits until there is an enclave.
    pub(crate) async fn here(&self) {
        self.wait(Option::is_none).await;
    }

    /// Waits until there is no enclave: what was asked of it will not be answered.
    pub(crate) async fn gone(&self) -> Rejection {
        self.wait(Option::is_some).await;
        Rejection::new(
            Code::EnclaveUnavailable,
            "the enclave is being started again; try again",
        )
    }

    async fn wait(&self, until: impl FnMut(&Option<String>) -> bool) {
        // An error means that nothing will change any more.
        if self.0.clone().wait_for(until).await.is_err() {
            pending::<()>().await;
        }
    }
}
