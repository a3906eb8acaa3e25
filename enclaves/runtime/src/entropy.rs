//! Key entropy: the NSM and the kernel, mixed so that either one suffices.
//!
//! ```text
//! output = HKDF-SHA256(ikm = NSM GetRandom (32 bytes) ‖ getrandom(2) (32 bytes), info = label)        RFC 5869
//! ```

use std::sync::Arc;

use cloister_nsm::{Nsm, NsmError};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::wipe::wipe_stack;

/// Mixes the randomness of the NSM with that of the kernel.
#[derive(Clone)]
pub struct Entropy {
    nsm: Arc<dyn Nsm>,
}

impl Entropy {
    /// Randomness from this NSM and the kernel.
    pub fn new(nsm: Arc<dyn Nsm>) -> Self {
        Self { nsm }
    }

    /// Fresh random bytes, separated from those for every other use by `label`; each call draws
    /// from both sources.
    ///
    /// # Errors
    /// [`EntropyError`] if a source fails or returns one byte repeated. There is no output then.
    pub async fn random<const N: usize>(
        &self,
        label: &'static str,
    ) -> Result<Zeroizing<[u8; N]>, EntropyError> {
        const { assert!(N <= MAX_OUTPUT_LEN) };
        let nsm = self.nsm.clone();
        // The NSM is a blocking device.
        tokio::task::spawn_blocking(move || {
            // Boxed, so that the stack of this thread keeps no copy.
            let drawn = draw(nsm.as_ref(), label).map(Box::new);
            wipe_stack();
            drawn
        })
        .await
        .map_err(|_| EntropyError::Panicked)?
        .map(|drawn| *drawn)
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entropy").finish_non_exhaustive()
    }
}

/// The reason for which there is no randomness.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntropyError {
    /// The NSM refused or failed.
    #[error("failed to draw randomness from the NSM")]
    Nsm(#[source] NsmError),
    /// getrandom(2) failed.
    #[error("failed to draw randomness from the kernel")]
    Kernel(#[source] getrandom::Error),
    /// A source returned one byte repeated.
    #[error("{0} returned constant bytes")]
    Constant(&'static str),
    /// The thread that drew panicked.
    #[error("the thread that drew randomness panicked")]
    Panicked,
}

fn draw<const N: usize>(nsm: &dyn Nsm, label: &str) -> Result<Zeroizing<[u8; N]>, EntropyError> {
    let mut sources = Zeroizing::new([0; 2 * SOURCE_LEN]);
    let (from_nsm, from_kernel) = sources.split_at_mut(SOURCE_LEN);
    nsm.random(from_nsm).map_err(EntropyError::Nsm)?;
    refuse_constant("the NSM", from_nsm)?;
    getrandom::fill(from_kernel).map_err(EntropyError::Kernel)?;
    refuse_constant("the kernel", from_kernel)?;

    let mut output = Zeroizing::new([0; N]);
    Hkdf::<Sha256>::new(None, sources.as_slice())
        .expand(label.as_bytes(), output.as_mut_slice())
        .expect("the length of the output was checked when this was compiled");
    Ok(output)
}

fn refuse_constant(source: &'static str, bytes: &[u8]) -> Result<(), EntropyError> {
    if bytes.iter().all(|byte| *byte == bytes[0]) {
        Err(EntropyError::Constant(source))
    } else {
        Ok(())
    }
}

/// Bytes drawn from each source: as many as the strength of HKDF-SHA256.
const SOURCE_LEN: usize = 32;
/// RFC 5869 §2.3: 255 times the length of the hash.
const MAX_OUTPUT_LEN: usize = 255 * 32;

#[cfg(test)]
mod tests {
    use cloister_nsm::Refusal;

    use super::*;
    use crate::fake_nsm::FakeNsm;

    /// An NSM that always returns the same randomness, or none.
    fn constant(random: Option<[u8; SOURCE_LEN]>) -> Arc<dyn Nsm> {
        Arc::new(FakeNsm {
            random: Box::new(move |out| {
                out.copy_from_slice(&random.ok_or(Refusal::Internal)?[..out.len()]);
                Ok(())
            }),
            ..FakeNsm::default()
        })
    }

    fn plausible() -> [u8; SOURCE_LEN] {
        std::array::from_fn(|index| u8::try_from(index).unwrap())
    }

    #[tokio::test]
    async fn the_kernel_makes_up_for_an_nsm_that_repeats_itself() {
        let entropy = Entropy::new(constant(Some(plausible())));
        let first = entropy.random::<32>("test").await.unwrap();
        let second = entropy.random::<32>("test").await.unwrap();
        assert_ne!(first, second);
    }

    #[tokio::test]
    async fn a_source_that_fails_or_is_constant_gives_no_key() {
        let outcome =
            |random| async move { Entropy::new(constant(random)).random::<32>("test").await };
        assert!(matches!(outcome(None).await, Err(EntropyError::Nsm(_))));
        for byte in [0, 0xff, 7] {
            assert!(matches!(
                outcome(Some([byte; SOURCE_LEN])).await,
                Err(EntropyError::Constant("the NSM"))
            ));
        }
    }
}
