//! Requires that the kernel's random number generator is seeded by the NSM.

use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cloister_contract::nsm::{RNG_CURRENT_PATH, RNG_NAME};

use crate::error::BootError;

/// Waits until getrandom(2) returns bytes of a generator that the NSM feeds.
///
/// # Errors
/// [`BootError`].
pub(crate) fn require() -> Result<(), BootError> {
    let current = fs::read_to_string(RNG_CURRENT_PATH).map_err(|source| BootError::Read {
        path: RNG_CURRENT_PATH,
        source,
    })?;
    fed_by_nsm(&current)?;
    let (ready, is_ready) = mpsc::channel();
    // It blocks until the generator is seeded.
    thread::spawn(move || ready.send(getrandom::fill(&mut [0; 1])));
    is_ready
        .recv_timeout(DEADLINE)
        .map_err(|_| BootError::RandomnessNotReady)?
        .map_err(BootError::KernelRandomness)
}

fn fed_by_nsm(current: &str) -> Result<(), BootError> {
    let current = current.trim_end();
    if current == RNG_NAME {
        Ok(())
    } else {
        Err(BootError::RandomnessSource(current.to_owned()))
    }
}

const DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nsm_feeds_the_kernel() {
        fed_by_nsm("nsm-hwrng\n").unwrap();
        for other in ["virtio_rng.0\n", "none\n", "", "tpm-rng-0", "nsm-hwrng2"] {
            assert!(
                matches!(fed_by_nsm(other), Err(BootError::RandomnessSource(_))),
                "{other}"
            );
        }
    }
}
