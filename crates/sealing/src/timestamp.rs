//! Timestamps of two clocks, for ages that neither clock alone can shorten.

use std::time::{Duration, Instant, SystemTime};

/// A point in time, taken from the monotonic clock and from the system clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamp {
    monotonic: Instant,
    wall: SystemTime,
}

impl Timestamp {
    pub(crate) fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The longer of the two ages: the monotonic clock stops while a machine is paused, the system
    /// clock may be set. If the system clock was set back, the age is unknown and counts as
    /// unlimited.
    pub(crate) fn age(&self) -> Duration {
        self.monotonic
            .elapsed()
            .max(self.wall.elapsed().unwrap_or(Duration::MAX))
    }
}
