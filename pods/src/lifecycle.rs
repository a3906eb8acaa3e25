//! Keeps one enclave running: checks its image, starts it, follows its log, and starts it again
//! when it ends.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::driver::{DriverError, EnclaveDriver, Launch};
use crate::enclave_log::{follow, follow_console};
use crate::error::chain;
use crate::image::{ImageError, check};
use crate::metrics::Dimensions;
use crate::pauses::Pauses;

/// The life of a pod's enclaves, one after the other.
#[derive(Debug)]
pub(crate) struct Lifecycle<D> {
    pub(crate) driver: D,
    pub(crate) launch: Launch,
    /// Where it is written what the image must measure.
    pub(crate) measurements: PathBuf,
    pub(crate) service: &'static str,
    pub(crate) metrics: Option<Dimensions>,
    /// Tells the rest of the pod.
    pub(crate) presence: watch::Sender<Option<String>>,
}

/// Why there is no enclave now.
#[derive(Debug, thiserror::Error)]
enum Absence {
    #[error("{}", chain(.0))]
    Image(#[from] ImageError),
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("the enclave ended after {} s: {reason}", .lived.as_secs())]
    Ended { lived: Duration, reason: String },
}

impl<D: EnclaveDriver> Lifecycle<D> {
    /// Runs until `shutdown`, and then until the enclave is terminated.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut schedule = Schedule::new();
        loop {
            let Some(absence) = shutdown.run_until_cancelled(self.live()).await else {
                break;
            };
            let ended = matches!(absence, Absence::Ended { .. });
            if ended {
                // Whoever waits for an answer need not wait for this.
                self.presence.send_replace(Some(absence.to_string()));
                self.terminate().await;
            }
            let pause = schedule.after(&absence);
            let problem = absence.to_string();
            if ended || self.presence.borrow().as_ref() != Some(&problem) {
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(problem, pause_ms, "no enclave; it will be started again");
            }
            self.presence.send_replace(Some(problem));
            if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
                break;
            }
        }
        self.terminate().await;
        tracing::info!("the enclave is terminated");
    }

    /// One life: from the image to the end of the enclave, or to what stands in the way.
    async fn live(&mut self) -> Absence {
        if let Err(absence) = self.start().await {
            return absence;
        }
        let began = Instant::now();
        tracing::info!(image = %self.launch.image.display(), "the enclave has booted");
        self.presence.send_replace(None);
        let reason = self.follow().await;
        Absence::Ended {
            lived: began.elapsed(),
            reason,
        }
    }

    async fn start(&mut self) -> Result<(), Absence> {
        let (launch, measurements, service) =
            (self.launch.clone(), self.measurements.clone(), self.service);
        // Some 16 MB are read and hashed.
        tokio::task::spawn_blocking(move || check(&launch, &measurements, service))
            .await
            .expect("the check does not panic")?;
        self.driver.clean_up().await?;
        Ok(self.driver.start(&self.launch).await?)
    }

    /// Follows the enclave to its end, and says why it came.
    async fn follow(&mut self) -> String {
        let _console = match self.console().await {
            Ok(console) => console,
            Err(problem) => {
                tracing::warn!(%problem, "no console");
                None
            }
        };
        let address = self.driver.address(LOG_PORT);
        let mut log = pin!(follow(&address, self.metrics.as_ref()));
        tokio::select! {
            gone = self.driver.ended() => {
                // Its last words may still be on the way.
                timeout(LAST_WORDS_DEADLINE, log).await.ok().flatten().unwrap_or(gone)
            }
            reason = &mut log => {
                self.presence.send_replace(Some("the enclave is ending".to_owned()));
                match reason {
                    Some(reason) => reason,
                    None => timeout(LAST_WORDS_DEADLINE, self.driver.ended())
                        .await
                        .unwrap_or_else(|_| "its log ended without a word".to_owned()),
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

    async fn terminate(&mut self) {
        if let Err(problem) = self.driver.terminate().await {
            tracing::error!(%problem, "the enclave may still run");
        }
    }
}

/// How long to wait after what.
#[derive(Debug)]
struct Schedule {
    failures: Pauses,
    busy: Pauses,
}

impl Schedule {
    fn new() -> Self {
        Self {
            failures: Pauses::new(FIRST_PAUSE, LONGEST_PAUSE),
            busy: Pauses::new(FIRST_PAUSE, LONGEST_BUSY_PAUSE),
        }
    }

    fn after(&mut self, absence: &Absence) -> Duration {
        if !matches!(absence, Absence::Driver(DriverError::Busy(_))) {
            self.busy.reset();
        }
        match absence {
            Absence::Image(_) => RECHECK_PAUSE,
            Absence::Driver(DriverError::Busy(_)) => self.busy.next(),
            Absence::Driver(_) => self.failures.next(),
            Absence::Ended { lived, .. } => {
                if *lived >= HEALTHY_LIFE {
                    self.failures.reset();
                }
                self.failures.next()
            }
        }
    }
}

/// Where init tells what happens in the enclave.
const LOG_PORT: u32 = 5001;
/// Pause after a first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause while another enclave is being started: that takes seconds.
const LONGEST_BUSY_PAUSE: Duration = Duration::from_secs(8);
/// Pause before an image or its measurements that were refused are looked at again.
const RECHECK_PAUSE: Duration = Duration::from_secs(5);
/// An enclave that lived this long did not fail because of how it was started.
const HEALTHY_LIFE: Duration = Duration::from_secs(60);
/// For the other sign of an enclave's end, once there was one: the end of its log, or what the
/// driver knows.
const LAST_WORDS_DEADLINE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(lived: Duration) -> Absence {
        Absence::Ended {
            lived,
            reason: "application_exited (status 1)".into(),
        }
    }

    #[test]
    fn pauses_grow_with_each_crash_and_a_healthy_life_makes_them_short_again() {
        let mut schedule = Schedule::new();
        let first = FIRST_PAUSE..=2 * FIRST_PAUSE;
        assert!(first.contains(&schedule.after(&ended(Duration::ZERO))));
        let last = (0..10)
            .map(|_| schedule.after(&ended(HEALTHY_LIFE / 2)))
            .last()
            .unwrap();
        assert!(
            (LONGEST_PAUSE..=2 * LONGEST_PAUSE).contains(&last),
            "{last:?}"
        );
        let failed = schedule.after(&DriverError::failed("no", "none").into());
        assert!(
            failed >= LONGEST_PAUSE,
            "a start that fails goes on where a crash was: {failed:?}"
        );
        assert!(first.contains(&schedule.after(&ended(HEALTHY_LIFE))));
    }

    #[test]
    fn a_busy_machine_is_asked_again_soon_and_does_not_count_as_a_failure() {
        let mut schedule = Schedule::new();
        let busy = Absence::from(DriverError::Busy("another enclave".into()));
        let pauses: Vec<_> = (0..10).map(|_| schedule.after(&busy)).collect();
        assert!((FIRST_PAUSE..=2 * FIRST_PAUSE).contains(&pauses[0]));
        assert!((LONGEST_BUSY_PAUSE..=2 * LONGEST_BUSY_PAUSE).contains(&pauses[9]));
        assert!(schedule.after(&ended(Duration::ZERO)) <= 2 * FIRST_PAUSE);
        assert!(schedule.after(&busy) <= 2 * FIRST_PAUSE);
    }
}
