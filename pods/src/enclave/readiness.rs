//! Brings the enclave to readiness and keeps it there: credentials, CMK, canary.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use cloister_contract::{Arn, events};
use cloister_protocol::message::{Configure, Credentials, HealthReport, Request, State};
use cloister_protocol::{Code, Operation, Redacted, Rejection};
use cloister_transport::Client;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::aws::CredentialsCause;
use crate::backoff::Backoff;
use crate::enclave::health::{EnclaveHealth, ask};
use crate::enclave::status::EnclaveStatus;
use crate::service::PodService;

/// Keeps one enclave ready.
#[derive(Debug)]
pub(crate) struct ReadinessKeeper<S> {
    pub(crate) service: Arc<S>,
    pub(crate) enclave: Client,
    pub(crate) status: EnclaveStatus,
    pub(crate) health: Arc<EnclaveHealth>,
    pub(crate) credentials: SharedCredentialsProvider,
    pub(crate) cmk_arn: Arn,
    /// Notified when an answer shows that the enclave is not ready any more.
    pub(crate) lost: Arc<Notify>,
    pub(crate) last_problem: LastProblem,
}

/// The problem that keeps the enclave from readiness, if there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastProblem(Arc<Mutex<Option<String>>>);

impl LastProblem {
    pub(crate) fn get(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces the problem; true if it changed.
    fn set(&self, problem: Option<String>) -> bool {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *current != problem;
        *current = problem;
        changed
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadinessError {
    /// The enclave, or the table, refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The cause is logged only.
    #[error("the pod has no AWS credentials for the enclave")]
    Credentials(#[source] CredentialsError),
}

impl ReadinessError {
    fn log(&self) {
        let cause = match self {
            Self::Rejected(_) => None,
            Self::Credentials(error) => Some(tracing::field::display(CredentialsCause(error))),
        };
        tracing::warn!(
            event = events::ENCLAVE_NOT_READY,
            problem = %self,
            cause,
            "failed to bring the enclave to readiness"
        );
    }
}

impl<S: PodService> ReadinessKeeper<S> {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut refresh_at = None;
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        loop {
            self.status.wait_running().await;
            let outcome = tokio::select! {
                outcome = self.step(&mut refresh_at) => outcome,
                _ = self.status.wait_stopped() => continue,
            };
            match outcome {
                Ok(()) => {
                    if self.last_problem.set(None) {
                        tracing::info!(event = events::ENCLAVE_READY, "the enclave is ready");
                    }
                    backoff.reset();
                    tokio::select! {
                        () = sleep(POLL_INTERVAL) => {}
                        // Many requests may fail at once: one check for all of them.
                        () = self.lost.notified() => sleep(FIRST_DELAY).await,
                    }
                }
                Err(error) => {
                    if self.last_problem.set(Some(error.to_string())) {
                        error.log();
                    }
                    tokio::select! {
                        () = sleep(backoff.next()) => {}
                        // The next enclave starts without failures.
                        _ = self.status.wait_stopped() => backoff.reset(),
                    }
                }
            }
        }
    }

    /// Brings the enclave as far as possible now.
    async fn step(&self, refresh_at: &mut Option<SystemTime>) -> Result<(), ReadinessError> {
        let mut report = self.health.refresh().await?;
        let due = refresh_at.is_some_and(|at| at <= SystemTime::now());
        if report.state == State::Unconfigured || due {
            (report, *refresh_at) = self.configure().await?;
        }
        if report.state == State::Adopted {
            report = self.service.complete(&self.enclave).await?;
        }
        // Reported by the next `/readyz`.
        self.health.refresh().await?;
        if report.state == State::Ready {
            Ok(())
        } else {
            Err(Rejection::new(Code::NotReady, "the enclave is not ready").into())
        }
    }

    /// Sends credentials and CMK; also returns when to send them again.
    async fn configure(&self) -> Result<(HealthReport, Option<SystemTime>), ReadinessError> {
        let credentials = self
            .credentials
            .provide_credentials()
            .await
            .map_err(ReadinessError::Credentials)?;
        let expiry = credentials.expiry();
        let configure = Configure {
            cmk_arn: self.cmk_arn.to_string(),
            credentials: Credentials {
                access_key_id: Redacted::new(credentials.access_key_id().to_owned()),
                secret_access_key: Redacted::new(credentials.secret_access_key().to_owned()),
                session_token: Redacted::new(
                    credentials.session_token().unwrap_or_default().to_owned(),
                ),
                expires_at: expiry
                    .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
                    .map(|since| since.as_secs()),
            },
        };
        let part = serde_json::to_vec(&configure).expect("strings and a number");
        let report = ask(
            &self.enclave,
            Request {
                operation: Operation::Configure,
                parts: vec![part.into()],
            },
        )
        .await?;
        tracing::info!(
            event = events::ENCLAVE_CONFIGURED,
            state = ?report.state,
            locked = report.locked,
            "the enclave accepted new credentials"
        );
        Ok((
            report,
            expiry.map(|expiry| refresh_time(SystemTime::now(), expiry)),
        ))
    }
}

/// [`REFRESH_MARGIN`] before they expire, or after half of their lifetime if that is later; never
/// immediately.
fn refresh_time(now: SystemTime, expiry: SystemTime) -> SystemTime {
    let lifetime = expiry.duration_since(now).unwrap_or_default();
    now + lifetime
        .saturating_sub(REFRESH_MARGIN)
        .max(lifetime / 2)
        .max(SHORTEST_LIFETIME)
}

/// Credentials are replaced this long before they expire.
const REFRESH_MARGIN: Duration = Duration::from_secs(5 * 60);
/// Credentials are not replaced more often than this.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(1);
/// Delay between two health checks of a ready enclave.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Delay after a first failure; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest delay after a failure.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_replaced_well_before_they_expire() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (lifetime, after) in [
            (minutes(60), minutes(55)),
            (minutes(15), minutes(10)),
            (minutes(10), minutes(5)),
            (minutes(4), minutes(2)),
            (Duration::ZERO, SHORTEST_LIFETIME),
        ] {
            assert_eq!(
                refresh_time(now, now + lifetime),
                now + after,
                "{lifetime:?}"
            );
        }
        assert_eq!(refresh_time(now, now - minutes(1)), now + SHORTEST_LIFETIME);
    }
}
