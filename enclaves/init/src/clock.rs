//! Keeps the system clock in step with the NSM. The parent's clock is not trusted.
//!
//! Once a minute the clock is compared with a new attestation document. An offset of less than a
//! second is slewed: the clock runs a little faster or slower until the next minute, so that time
//! neither stops nor repeats. A second or more is a step.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use clock_steering::unix::UnixClock;
use clock_steering::{Clock, TimeOffset};
use cloister_contract::ErrorChain;
use cloister_contract::enclave_log::{End, InitEvent};
use cloister_nsm::{Nsm, NsmError};

use crate::end::finish;
use crate::error::BootError;
use crate::log::Log;

/// Sets the clock.
///
/// # Errors
/// [`BootError::Time`], [`BootError::Clock`].
pub(crate) fn set(nsm: &dyn Nsm, log: &Log) -> Result<(), BootError> {
    let offset = measure(nsm).map_err(BootError::Time)?;
    step(offset).map_err(BootError::Clock)?;
    log.event(InitEvent::ClockSet {
        offset_ms: offset / 1_000_000,
    });
    Ok(())
}

/// Corrects the clock until the enclave ends, and ends the enclave after [`MAX_FAILURES`] failures
/// in a row.
pub(crate) fn keep(nsm: Arc<dyn Nsm>, log: Log) {
    thread::spawn(move || {
        let (mut failures, mut pause) = (0, INTERVAL);
        while failures < MAX_FAILURES {
            thread::sleep(pause);
            match correct(nsm.as_ref(), &log) {
                Ok(correction) => {
                    failures = 0;
                    pause = if correction == Correction::Step {
                        INTERVAL_AFTER_STEP
                    } else {
                        INTERVAL
                    };
                }
                Err(error) => {
                    failures += 1;
                    pause = INTERVAL;
                    log.event(InitEvent::ClockUnchecked {
                        error: ErrorChain(&error).to_string(),
                        failures,
                    });
                }
            }
        }
        finish(
            &log,
            End::InitFailed {
                error: format!("failed to check the clock {MAX_FAILURES} times in a row"),
            },
        )
    });
}

fn correct(nsm: &dyn Nsm, log: &Log) -> Result<Correction, BootError> {
    let offset = measure(nsm).map_err(BootError::Time)?;
    let correction = correction(offset);
    match correction {
        Correction::Slew { ppm } => UnixClock::CLOCK_REALTIME
            .set_frequency(ppm)
            .map(drop)
            .map_err(io::Error::from),
        Correction::Step => {
            log.event(InitEvent::ClockStepped {
                offset_ms: offset / 1_000_000,
            });
            step(offset)
        }
    }
    .map(|()| correction)
    .map_err(BootError::Clock)
}

/// The NSM's time minus the system clock, in nanoseconds.
fn measure(nsm: &dyn Nsm) -> Result<i64, NsmError> {
    let before = SystemTime::now();
    let time = cloister_nsm::time(nsm)?;
    let after = SystemTime::now();
    Ok(i64::midpoint(
        nanos_since_epoch(time) - nanos_since_epoch(before),
        nanos_since_epoch(time) - nanos_since_epoch(after),
    ))
}

/// Saturates 292 years after 1970.
fn nanos_since_epoch(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Correction {
    /// Let the clock run faster by so many millionths, or slower.
    Slew { ppm: f64 },
    /// Set it.
    Step,
}

fn correction(offset: i64) -> Correction {
    if offset.unsigned_abs() >= NANOS_PER_SECOND.unsigned_abs() {
        return Correction::Step;
    }
    // One millionth corrects an offset of a microsecond within a second.
    let micros = i32::try_from(offset / 1000).expect("less than a second");
    Correction::Slew {
        ppm: (f64::from(micros) / INTERVAL.as_secs_f64()).clamp(-MAX_PPM, MAX_PPM),
    }
}

fn step(offset: i64) -> io::Result<()> {
    let clock = UnixClock::CLOCK_REALTIME;
    // Ends an earlier slew.
    clock.set_frequency(0.0)?;
    let nanos = u32::try_from(offset.rem_euclid(NANOS_PER_SECOND)).expect("less than a second");
    clock.step_clock(TimeOffset {
        seconds: offset.div_euclid(NANOS_PER_SECOND),
        nanos,
    })?;
    Ok(())
}

const INTERVAL: Duration = Duration::from_secs(60);
/// A clock that was a second off within a minute may have been calibrated wrongly when the kernel
/// started.
const INTERVAL_AFTER_STEP: Duration = Duration::from_secs(5);
const MAX_FAILURES: u32 = 10;
/// The kernel's limit. See adjtimex(2).
const MAX_PPM: f64 = 500.0;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use cloister_nsm_software::{Pki, SoftwareNsm};

    use super::*;

    #[test]
    fn less_than_a_second_is_slewed_and_the_rest_is_stepped() {
        let slew = |ppm| Correction::Slew { ppm };
        for (offset, expected) in [
            (0, slew(0.0)),
            (6_000_000, slew(100.0)),
            (-6_000_000, slew(-100.0)),
            (30_000_000, slew(500.0)),
            (999_999_999, slew(500.0)),
            (-999_999_999, slew(-500.0)),
            (1_000_000_000, Correction::Step),
            (-1_000_000_000, Correction::Step),
            (3600 * NANOS_PER_SECOND, Correction::Step),
            (i64::MIN, Correction::Step),
            (i64::MAX, Correction::Step),
        ] {
            assert_eq!(correction(offset), expected, "{offset}");
        }
    }

    #[test]
    fn an_hour_is_an_hour() {
        for (signed, clock) in [
            (3600, SystemTime::now() + Duration::from_secs(3600)),
            (-3600, SystemTime::now() - Duration::from_secs(3600)),
        ] {
            let nsm = SoftwareNsm::with_clock(
                &Pki::generate().unwrap(),
                [(0, [7; 48])].into(),
                move || clock,
            )
            .unwrap();
            let seconds = measure(&nsm).unwrap().div_euclid(NANOS_PER_SECOND);
            assert!((signed - 60..=signed).contains(&seconds), "{seconds}");
        }
    }
}
