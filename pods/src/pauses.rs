//! How long to wait before something that failed is tried again.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Pauses that grow with each failure and are each lengthened by up to as much again, so that pods
/// that failed together do not try again together.
#[derive(Debug)]
pub(crate) struct Pauses {
    schedule: ExponentialBuilder,
    next: ExponentialBackoff,
}

impl Pauses {
    /// From `first`, doubling up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        let schedule = ExponentialBuilder::default()
            .with_min_delay(first)
            .with_max_delay(longest)
            .with_jitter()
            .without_max_times();
        Self {
            schedule,
            next: schedule.build(),
        }
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        self.next
            .next()
            .expect("the number of pauses is not limited")
    }

    /// It went well: the next failure is a first one.
    pub(crate) fn reset(&mut self) {
        self.next = self.schedule.build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_begin_anew_after_a_success() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut pauses = Pauses::new(first, longest);
        for _ in 0..2 {
            let mut plain = first;
            for _ in 0..100 {
                let pause = pauses.next();
                assert!(
                    (plain..=2 * plain).contains(&pause),
                    "{pause:?} instead of {plain:?} or a little more"
                );
                plain = (2 * plain).min(longest);
            }
            pauses.reset();
        }
    }

    #[test]
    fn pods_that_failed_together_do_not_try_again_together() {
        let pauses = || Pauses::new(Duration::from_secs(1), Duration::from_secs(60)).next();
        let first = pauses();
        assert!((0..20).any(|_| pauses() != first));
    }
}
