//! The status of the pod's enclave, shared by all parts of the pod.

use std::future::pending;

use cloister_protocol::{Code, Rejection};
use tokio::sync::watch;

/// The reason why the managed enclave does not run; `None` while it runs. An externally managed
/// enclave is assumed to be running.
#[derive(Clone, Debug)]
pub(crate) struct EnclaveStatus(watch::Receiver<Option<String>>);

impl EnclaveStatus {
    /// The status of an enclave that the pod is yet to start, and the sender that changes it.
    pub(crate) fn managed() -> (watch::Sender<Option<String>>, Self) {
        let (sender, receiver) = watch::channel(Some("the enclave is starting".to_owned()));
        (sender, Self(receiver))
    }

    /// The status of an externally managed enclave.
    pub(crate) fn external() -> Self {
        Self(watch::channel(None).1)
    }

    /// Fails with the reason if the enclave does not run.
    pub(crate) fn check(&self) -> Result<(), Rejection> {
        self.0.borrow().clone().map_or(Ok(()), |reason| {
            Err(Rejection::new(Code::EnclaveUnavailable, reason))
        })
    }

    /// Waits until the enclave runs.
    pub(crate) async fn wait_running(&self) {
        self.wait(Option::is_none).await;
    }

    /// Waits until the enclave does not run. It leaves requests in flight unanswered; the result
    /// is their answer.
    pub(crate) async fn wait_stopped(&self) -> Rejection {
        self.wait(Option::is_some).await;
        Rejection::new(
            Code::EnclaveUnavailable,
            "the enclave is restarting; try again",
        )
    }

    async fn wait(&self, until: impl FnMut(&Option<String>) -> bool) {
        // An error means that the sender is gone: the status is final.
        if self.0.clone().wait_for(until).await.is_err() {
            pending::<()>().await;
        }
    }
}
