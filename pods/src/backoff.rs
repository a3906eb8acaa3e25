//! Delays with jitter: of retries, and of what is done at intervals.

use std::time::Duration;

use backon::{BackoffBuilder as _, ConstantBuilder, ExponentialBackoff, ExponentialBuilder};

/// Delays that double with each failure. Jitter lengthens each by up to its own length, so that
/// pods that failed together do not retry together.
#[derive(Debug)]
pub(crate) struct Backoff {
    schedule: ExponentialBuilder,
    delays: ExponentialBackoff,
}

impl Backoff {
    /// From `first`, doubling up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        let schedule = ExponentialBuilder::default()
            .with_min_delay(first)
            .with_max_delay(longest)
            .with_jitter()
            .without_max_times();
        Self {
            schedule,
            delays: schedule.build(),
        }
    }

    /// The delay after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        self.delays
            .next()
            .expect("the number of delays is not limited")
    }

    /// Starts over after a success.
    pub(crate) fn reset(&mut self) {
        self.delays = self.schedule.build();
    }
}

/// Delays that jitter lengthens by up to their own length, so that pods that started together do
/// not call AWS together.
pub(crate) fn jittered(delay: Duration) -> impl Iterator<Item = Duration> {
    ConstantBuilder::default()
        .with_delay(delay)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_a_limit_and_start_over_after_a_success() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(first, longest);
        for _ in 0..2 {
            let mut plain = first;
            for _ in 0..100 {
                let delay = backoff.next();
                assert!(
                    (plain..=2 * plain).contains(&delay),
                    "{delay:?} instead of {plain:?} or a little more"
                );
                plain = (2 * plain).min(longest);
            }
            backoff.reset();
        }
    }

    #[test]
    fn pods_that_failed_together_do_not_retry_together() {
        let delay = || Backoff::new(Duration::from_secs(1), Duration::from_secs(60)).next();
        let first = delay();
        assert!((0..20).any(|_| delay() != first));
    }

    #[test]
    fn what_is_done_at_intervals_is_never_early_nor_later_than_twice_the_interval() {
        let interval = Duration::from_secs(150);
        let delays: Vec<_> = jittered(interval).take(100).collect();
        let limits = interval..=2 * interval;
        assert!(delays.iter().all(|delay| limits.contains(delay)));
        assert!(delays.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
