//! The boot key: P-256, generated at every boot, its public half in a locked register.
//!
//! ```text
//! scalar = HKDF-SHA256(ikm = NSM GetRandom (32 bytes) ‖ getrandom(2) (32 bytes), info = label ‖ counter), the first in [1, n−1]
//! PCR16  = SHA-384(0^48 ‖ public key, SEC 1 uncompressed)
//! ```

use cloister_contract::pcr;
use cloister_nsm::Nsm;
use hkdf::Hkdf;
use p256::SecretKey;
use p256::elliptic_curve::sec1::ToSec1Point;
use sha2::{Digest, Sha256, Sha384};
use zeroize::Zeroizing;

use crate::error::BootError;

/// Generates the boot key, extends its register with the public half and locks every register.
///
/// # Errors
/// [`BootError`].
pub(crate) fn make(nsm: &dyn Nsm, registers: u16) -> Result<Zeroizing<[u8; 32]>, BootError> {
    let key = generate(nsm)?;
    let public = key.public_key().to_sec1_point(false);
    let value = nsm
        .extend_pcr(pcr::BOOT_KEY, public.as_bytes())
        .map_err(BootError::Registers)?;
    let expected = Sha384::new()
        .chain_update([0; 48])
        .chain_update(public.as_bytes())
        .finalize();
    if value != expected.as_slice() {
        return Err(BootError::RegisterInUse);
    }
    // The hypervisor locked its own registers before.
    nsm.lock_pcrs(registers).map_err(BootError::Registers)?;
    let mut scalar = Zeroizing::new([0; 32]);
    scalar.copy_from_slice(Zeroizing::new(key.to_bytes()).as_slice());
    Ok(scalar)
}

fn generate(nsm: &dyn Nsm) -> Result<SecretKey, BootError> {
    let mut sources = Zeroizing::new([0; 64]);
    let (from_nsm, from_kernel) = sources.split_at_mut(32);
    nsm.random(from_nsm).map_err(BootError::NsmRandomness)?;
    getrandom::fill(from_kernel).map_err(BootError::KernelRandomness)?;
    if from_kernel.iter().all(|byte| *byte == from_kernel[0]) {
        return Err(BootError::ConstantRandomness);
    }
    let stretched = Hkdf::<Sha256>::new(None, sources.as_slice());
    let mut candidates = (0..=u8::MAX).filter_map(|counter| {
        let mut candidate = Zeroizing::new([0; 32]);
        stretched
            .expand_multi_info(&[LABEL, &[counter]], candidate.as_mut_slice())
            .ok()?;
        SecretKey::from_slice(candidate.as_slice()).ok()
    });
    // One candidate in 2^32 is not a scalar: 256 in a row are not randomness.
    candidates.next().ok_or(BootError::ConstantRandomness)
}

const LABEL: &[u8] = b"cloister/boot-key/v1";

#[cfg(test)]
mod tests {
    use cloister_nsm::{NsmError, Refusal};
    use cloister_nsm_software::{Pki, SoftwareNsm};

    use super::*;

    #[test]
    fn the_register_vouches_for_the_key_and_no_register_can_change_any_more() {
        let nsm = SoftwareNsm::new(&Pki::generate().unwrap(), [(0, [7; 48])].into()).unwrap();
        let scalar = make(&nsm, 32).unwrap();
        let public = SecretKey::from_slice(scalar.as_slice())
            .unwrap()
            .public_key()
            .to_sec1_point(false);
        let expected = Sha384::new()
            .chain_update([0; 48])
            .chain_update(public.as_bytes())
            .finalize();
        assert_eq!(nsm.describe_pcr(16).unwrap().value, expected.as_slice());
        assert_eq!(nsm.describe_pcr(0).unwrap().value, [7; 48]);
        for index in 0..32 {
            let refused = nsm.extend_pcr(index, b"more");
            assert!(
                matches!(refused, Err(NsmError::Refused(Refusal::ReadOnlyIndex))),
                "{index}"
            );
        }
        assert!(matches!(make(&nsm, 32), Err(BootError::Registers(_))));
    }

    #[test]
    fn a_register_that_holds_something_is_not_taken() {
        let nsm = SoftwareNsm::new(&Pki::generate().unwrap(), [(0, [7; 48])].into()).unwrap();
        nsm.extend_pcr(16, b"something").unwrap();
        assert!(matches!(make(&nsm, 32), Err(BootError::RegisterInUse)));
    }

    #[test]
    fn every_boot_has_another_key() {
        let nsm = SoftwareNsm::new(&Pki::generate().unwrap(), [(0, [7; 48])].into()).unwrap();
        assert!(generate(&nsm).unwrap() != generate(&nsm).unwrap());
    }
}
