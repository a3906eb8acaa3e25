//! Keeps the enclave able to work: credentials, CMK, canary.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use cloister_protocol::message::{Configure, Credentials, HealthReport, Request, State};
use cloister_protocol::{Code, Operation, Redacted, Rejection};
use cloister_transport::Client;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::enclave_health::{EnclaveHealth, read};
use crate::pauses::Pauses;
use crate::presence::Presence;
use crate::run::Service;

/// Watches over one enclave.
#[derive(Debug)]
pub(crate) struct Supervisor<S> {
    pub(crate) service: Arc<S>,
    pub(crate) enclave: Client,
    pub(crate) presence: Presence,
    pub(crate) health: Arc<EnclaveHealth>,
    pub(crate) credentials: SharedCredentialsProvider,
    pub(crate) cmk_arn: String,
    /// Wakes it up early.
    pub(crate) lost: Arc<Notify>,
    pub(crate) problem: Problem,
}

/// Why the enclave could not be brought to readiness, if it could not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problem(Arc<Mutex<Option<String>>>);

impl Problem {
    pub(crate) fn current(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sets it; true when it is another one than before.
    fn set(&self, problem: Option<String>) -> bool {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *current != problem;
        *current = problem;
        changed
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The enclave, or the table, refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// What AWS said stays in the log.
    #[error("the pod has no AWS credentials for the enclave")]
    Credentials(#[source] CredentialsError),
}

impl<S: Service> Supervisor<S> {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut refresh_at = None;
        let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            self.presence.here().await;
            let outcome = tokio::select! {
                outcome = self.step(&mut refresh_at) => outcome,
                _ = self.presence.gone() => continue,
            };
            match outcome {
                Ok(()) => {
                    if self.problem.set(None) {
                        tracing::info!("the enclave is ready");
                    }
                    pauses.reset();
                    tokio::select! {
                        () = sleep(POLL_INTERVAL) => {}
                        // Many requests may fail at once; the enclave is asked once for all of
                        // them.
                        () = self.lost.notified() => sleep(FIRST_PAUSE).await,
                    }
                }
                Err(failure) => {
                    if self.problem.set(Some(failure.to_string())) {
                        let cause = match &failure {
                            Failure::Credentials(error) => {
                                std::error::Error::source(error).map(ToString::to_string)
                            }
                            Failure::Rejected(_) => None,
                        };
                        tracing::warn!(problem = %failure, cause, "the enclave cannot be brought to readiness");
                    }
                    tokio::select! {
                        () = sleep(pauses.next()) => {}
                        // The next enclave did not fail yet.
                        _ = self.presence.gone() => pauses.reset(),
                    }
                }
            }
        }
    }

    /// Brings the enclave as far as it can be brought now.
    async fn step(&self, refresh_at: &mut Option<SystemTime>) -> Result<(), Failure> {
        let mut report = self.health.now().await?;
        let due = refresh_at.is_some_and(|at| at <= SystemTime::now());
        if report.state == State::Unconfigured || due {
            (report, *refresh_at) = self.configure().await?;
        }
        if report.state == State::Adopted {
            report = self.service.complete(&self.enclave).await?;
        }
        // Whoever asks next hears of it.
        self.health.now().await?;
        if report.state == State::Ready {
            Ok(())
        } else {
            Err(not_ready().into())
        }
    }

    /// Pushes credentials and CMK; also says when to do so again.
    async fn configure(&self) -> Result<(HealthReport, Option<SystemTime>), Failure> {
        let credentials = self
            .credentials
            .provide_credentials()
            .await
            .map_err(Failure::Credentials)?;
        let expiry = credentials.expiry();
        let configure = Configure {
            cmk_arn: self.cmk_arn.clone(),
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
        tracing::info!(state = ?report.state, locked = report.locked, "the enclave took new credentials");
        Ok((
            report,
            expiry.map(|expiry| refresh_time(SystemTime::now(), expiry)),
        ))
    }
}

/// A request that is answered with a report.
pub(crate) async fn ask(enclave: &Client, request: Request) -> Result<HealthReport, Rejection> {
    read(&enclave.call(request).await?)
}

fn not_ready() -> Rejection {
    Rejection::new(Code::NotReady, "the enclave is not ready")
}

/// [`REFRESH_MARGIN`] before they expire, or after half of their life if that is later; never at
/// once.
fn refresh_time(now: SystemTime, expiry: SystemTime) -> SystemTime {
    let life = expiry.duration_since(now).unwrap_or_default();
    now + life
        .saturating_sub(REFRESH_MARGIN)
        .max(life / 2)
        .max(SHORTEST_LIFE)
}

/// How long before their expiry credentials are replaced.
const REFRESH_MARGIN: Duration = Duration::from_secs(5 * 60);
/// Credentials are not replaced more often than this.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);
/// Pause between two looks at an enclave that is well.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Pause after a first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_replaced_well_before_they_expire() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (life, after) in [
            (minutes(60), minutes(55)),
            (minutes(15), minutes(10)),
            (minutes(10), minutes(5)),
            (minutes(4), minutes(2)),
            (Duration::ZERO, SHORTEST_LIFE),
        ] {
            assert_eq!(refresh_time(now, now + life), now + after, "{life:?}");
        }
        assert_eq!(refresh_time(now, now - minutes(1)), now + SHORTEST_LIFE);
    }
}
