//! Keeps one enclave running: checks its image, starts it, follows its log, and restarts it after
//! its end.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use cloister_contract::{ErrorChain, Service, events, ports};
use cloister_transport::Session;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::backoff::Backoff;
use crate::enclave::driver::{DriverError, EnclaveDriver, Launch};
use crate::enclave::image::{ImageError, check};
use crate::enclave::log::{follow, follow_console};
use crate::enclave::metrics::Dimensions;
use crate::enclave::session;

/// Runs the pod's enclaves, one after the other.
#[derive(Debug)]
pub(crate) struct Supervisor<D> {
    pub(crate) driver: D,
    pub(crate) launch: Launch,
    /// The file with the expected measurements of the image.
    pub(crate) measurements: PathBuf,
    pub(crate) service: Service,
    pub(crate) metrics: Option<Dimensions>,
    /// Gets a new value before each start.
    pub(crate) session: Session,
    /// Publishes the enclave's status to the rest of the pod.
    pub(crate) status: watch::Sender<Option<String>>,
}

/// The reason why no enclave runs.
#[derive(Debug, thiserror::Error)]
enum Outage {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("failed to draw a session value")]
    Randomness(#[from] getrandom::Error),
    #[error("the enclave ended after {} s: {reason}", .uptime.as_secs())]
    Ended { uptime: Duration, reason: String },
    #[error("another process on this machine bound the enclave before its pod")]
    BoundElsewhere,
}

impl Outage {
    /// The stable name in the log's field `cause`.
    fn cause(&self) -> &'static str {
        match self {
            Self::Image(_) => "image_refused",
            Self::Driver(_) | Self::Randomness(_) => "start_failed",
            Self::Ended { .. } => "ended",
            Self::BoundElsewhere => "bound_elsewhere",
        }
    }

    /// True if the enclave may still run.
    fn follows_a_start(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::BoundElsewhere)
    }
}

impl<D: EnclaveDriver> Supervisor<D> {
    /// Runs until `shutdown`, and then until the enclave is terminated.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut schedule = Schedule::new();
        loop {
            let Some(outage) = shutdown.run_until_cancelled(self.run_one()).await else {
                break;
            };
            let problem = ErrorChain(&outage).to_string();
            let started = outage.follows_a_start();
            if started {
                // Requests in flight are answered before the termination, which takes a while.
                self.status.send_replace(Some(problem.clone()));
                self.terminate().await;
            }
            let delay = schedule.after(&outage);
            if started || self.status.borrow().as_ref() != Some(&problem) {
                let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(
                    event = events::ENCLAVE_DOWN,
                    cause = outage.cause(),
                    problem,
                    delay_ms,
                    "no enclave runs; it will be started again"
                );
            }
            self.status.send_replace(Some(problem));
            if shutdown.run_until_cancelled(sleep(delay)).await.is_none() {
                break;
            }
        }
        if self.terminate().await {
            tracing::info!(
                event = events::ENCLAVE_TERMINATED,
                "the enclave is terminated"
            );
        }
    }

    /// Starts an enclave and follows it to its end.
    async fn run_one(&mut self) -> Outage {
        if let Err(outage) = self.start().await {
            return outage;
        }
        let started = Instant::now();
        tracing::info!(
            event = events::ENCLAVE_BOOTED,
            image = %self.launch.image.display(),
            "the enclave has booted"
        );
        self.status.send_replace(None);
        let session = self.session.clone();
        tokio::select! {
            reason = self.follow() => Outage::Ended {
                uptime: started.elapsed(),
                reason,
            },
            () = session.refused() => {
                tracing::error!(
                    event = events::SESSION_MISMATCH,
                    "another process bound the enclave before its pod"
                );
                Outage::BoundElsewhere
            }
        }
    }

    async fn start(&mut self) -> Result<(), Outage> {
        let (launch, measurements, service) =
            (self.launch.clone(), self.measurements.clone(), self.service);
        // Some 16 MB are read and hashed.
        tokio::task::spawn_blocking(move || check(&launch, &measurements, service))
            .await
            .expect("the check does not panic")?;
        self.driver.clean_up().await?;
        // Whatever ran before is gone, and knows the former value only.
        self.session.renew(session::random()?);
        Ok(self.driver.start(&self.launch).await?)
    }

    /// Follows the enclave to its end, and returns the reason.
    async fn follow(&mut self) -> String {
        let _console = match self.console().await {
            Ok(console) => console,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "the console is unavailable");
                None
            }
        };
        let address = self.driver.address(ports::LOG);
        let mut log = pin!(follow(&address, self.metrics.as_ref()));
        tokio::select! {
            reason = self.driver.ended() => {
                // Drain remaining log lines.
                match timeout(DRAIN_DEADLINE, log).await {
                    Ok(Some(end)) => end.to_string(),
                    _ => reason,
                }
            }
            end = &mut log => {
                self.status.send_replace(Some("the enclave is ending".to_owned()));
                match end {
                    Some(end) => end.to_string(),
                    None => timeout(DRAIN_DEADLINE, self.driver.ended())
                        .await
                        .unwrap_or_else(|_| "its log ended without a reason".to_owned()),
                }
            }
        }
    }

    async fn console(&mut self) -> Result<Option<AbortOnDropHandle<()>>, DriverError> {
        if !self.launch.debug {
            return Ok(None);
        }
        let console = self.driver.console().await?;
        Ok(console.map(|console| AbortOnDropHandle::new(tokio::spawn(follow_console(console)))))
    }

    /// True if no enclave of this pod runs any more.
    async fn terminate(&mut self) -> bool {
        let terminated = self.driver.terminate().await;
        if let Err(error) = &terminated {
            tracing::error!(
                event = events::ENCLAVE_NOT_TERMINATED,
                error = %ErrorChain(error),
                "failed to terminate the enclave, which may still run"
            );
        }
        terminated.is_ok()
    }
}

/// The delay before the next start.
#[derive(Debug)]
struct Schedule {
    failures: Backoff,
    busy: Backoff,
}

impl Schedule {
    fn new() -> Self {
        Self {
            failures: Backoff::new(FIRST_DELAY, LONGEST_DELAY),
            busy: Backoff::new(FIRST_DELAY, LONGEST_BUSY_DELAY),
        }
    }

    fn after(&mut self, outage: &Outage) -> Duration {
        if !matches!(outage, Outage::Driver(DriverError::Busy(_))) {
            self.busy.reset();
        }
        match outage {
            Outage::Image(_) => RECHECK_DELAY,
            Outage::Driver(DriverError::Busy(_)) => self.busy.next(),
            Outage::Driver(_) | Outage::Randomness(_) | Outage::BoundElsewhere => {
                self.failures.next()
            }
            Outage::Ended { uptime, .. } => {
                if *uptime >= HEALTHY_UPTIME {
                    self.failures.reset();
                }
                self.failures.next()
            }
        }
    }
}

/// Delay after a first failure; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// Longest delay after a failure.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Longest delay while another enclave of the machine is starting, which takes seconds.
const LONGEST_BUSY_DELAY: Duration = Duration::from_secs(8);
/// Delay before a refused image or refused measurements are checked again.
const RECHECK_DELAY: Duration = Duration::from_secs(5);
/// An enclave that ran this long did not fail because of its start.
const HEALTHY_UPTIME: Duration = Duration::from_secs(60);
/// For the other sign of an enclave's end after the first one: the end of its log, or the driver's
/// reason.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(uptime: Duration) -> Outage {
        Outage::Ended {
            uptime,
            reason: "application_exited (status 1)".into(),
        }
    }

    #[test]
    fn delays_grow_with_each_crash_and_a_healthy_uptime_makes_them_short_again() {
        let mut schedule = Schedule::new();
        let first = FIRST_DELAY..=2 * FIRST_DELAY;
        assert!(first.contains(&schedule.after(&ended(Duration::ZERO))));
        let last = (0..10)
            .map(|_| schedule.after(&ended(HEALTHY_UPTIME / 2)))
            .last()
            .unwrap();
        assert!(
            (LONGEST_DELAY..=2 * LONGEST_DELAY).contains(&last),
            "{last:?}"
        );
        let failed = schedule.after(&DriverError::failed("no", "none").into());
        assert!(
            failed >= LONGEST_DELAY,
            "a failed start continues the backoff of crashes: {failed:?}"
        );
        assert!(first.contains(&schedule.after(&ended(HEALTHY_UPTIME))));
    }

    #[test]
    fn a_busy_machine_is_retried_soon_and_does_not_count_as_a_failure() {
        let mut schedule = Schedule::new();
        let busy = Outage::from(DriverError::Busy("another enclave".into()));
        let delays: Vec<_> = (0..10).map(|_| schedule.after(&busy)).collect();
        assert!((FIRST_DELAY..=2 * FIRST_DELAY).contains(&delays[0]));
        assert!((LONGEST_BUSY_DELAY..=2 * LONGEST_BUSY_DELAY).contains(&delays[9]));
        assert!(schedule.after(&ended(Duration::ZERO)) <= 2 * FIRST_DELAY);
        assert!(schedule.after(&busy) <= 2 * FIRST_DELAY);
    }
}
