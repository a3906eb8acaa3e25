//! How long ago something was, by two clocks.

use std::time::{Duration, Instant, SystemTime};

/// A point in time, taken from the monotonic clock and from the system clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The longer of the two ages: the monotonic clock stands still while a machine is paused, the
    /// system clock may be set. A system clock that was set back says nothing, so that the age is
    /// unknown, hence unlimited.
    pub(crate) fn age(&self) -> Duration {
        self.monotonic
            .elapsed()
            .max(self.wall.elapsed().unwrap_or(Duration::MAX))
    }
}
