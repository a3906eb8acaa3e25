//! Recent failed authentications per key, in bounded memory.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cloister_protocol::KeyId;
use lru::LruCache;

/// Counts failures per key. Only failed requests reach it.
#[derive(Debug)]
pub struct Failures(Mutex<LruCache<KeyId, Recent>>);

#[derive(Clone, Copy, Debug)]
struct Recent {
    since: Instant,
    count: u32,
}

impl Failures {
    /// No failures yet.
    pub fn new() -> Self {
        Self(Mutex::new(LruCache::new(MAX_KEYS)))
    }

    /// Adds one failure at `now`. Returns true if this key has too many within [`WINDOW`].
    pub(crate) fn add(&self, key_id: KeyId, now: Instant) -> bool {
        // Counters are whole whatever panicked meanwhile.
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = keys.get_or_insert_mut(key_id, || Recent {
            since: now,
            count: 0,
        });
        if now.saturating_duration_since(recent.since) >= WINDOW {
            *recent = Recent {
                since: now,
                count: 0,
            };
        }
        recent.count = recent.count.saturating_add(1);
        recent.count > MAX_FAILURES
    }
}

impl Default for Failures {
    fn default() -> Self {
        Self::new()
    }
}

/// Failures of one key within [`WINDOW`] before the code changes.
const MAX_FAILURES: u32 = 10;
/// Time for which failures are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Keys with counted failures; the least recent one is dropped first.
const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> KeyId {
        KeyId::from_random_bytes([byte; 16])
    }

    #[test]
    fn too_many_of_one_key_are_too_many_until_the_window_is_over() {
        let (failures, start) = (Failures::new(), Instant::now());
        assert!((0..MAX_FAILURES).all(|_| !failures.add(key(1), start)));
        assert!(failures.add(key(1), start));
        assert!(!failures.add(key(2), start), "another key");
        assert!(failures.add(key(1), start + WINDOW - Duration::from_millis(1)));
        assert!(!failures.add(key(1), start + WINDOW));
    }

    #[test]
    fn memory_is_bounded() {
        let failures = Failures::new();
        for index in 0..3 * MAX_KEYS.get() {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&index.to_be_bytes());
            failures.add(KeyId::from_random_bytes(bytes), Instant::now());
        }
        assert_eq!(failures.0.lock().unwrap().len(), MAX_KEYS.get());
    }
}
