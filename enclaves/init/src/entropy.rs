//! The kernel's randomness: from the NSM, and ready.

use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::boot::BootError;

/// Waits until getrandom(2) answers out of a generator that the NSM feeds.
///
/// # Errors
/// [`BootError`].
pub(crate) fn require() -> Result<(), BootError> {
    let current = fs::read_to_string(RNG_CURRENT).map_err(|source| BootError::Read {
        path: RNG_CURRENT,
        source,
    })?;
    fed_by_nsm(&current)?;
    let (ready, is_ready) = mpsc::channel();
    // It blocks until the generator is seeded, which a thread can be left to do.
    thread::spawn(move || ready.send(getrandom::fill(&mut [0; 1])));
    is_ready
        .recv_timeout(DEADLINE)
        .map_err(|_| BootError::RandomnessNotReady)?
        .map_err(BootError::KernelRandomness)
}

fn fed_by_nsm(current: &str) -> Result<(), BootError> {
    let current = current.trim_end();
    if current == NSM_RNG {
        Ok(())
    } else {
        Err(BootError::RandomnessSource(current.to_owned()))
    }
}

/// See Documentation/admin-guide/hw_random.rst of the kernel.
const RNG_CURRENT: &str = "/sys/class/misc/hw_random/rng_current";
/// The name under which the NSM's driver registers.
const NSM_RNG: &str = "nsm-hwrng";
const DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p1_only_the_nsm_feeds_the_kernel() {
        fed_by_nsm("nsm-hwrng\n").unwrap();
        for other in ["virtio_rng.0\n", "none\n", "", "tpm-rng-0", "nsm-hwrng2"] {
            assert!(
                matches!(fed_by_nsm(other), Err(BootError::RandomnessSource(_))),
                "{other}"
            );
        }
    }
}
