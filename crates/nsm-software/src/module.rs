//! The module itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
use cloister_nsm::{Claims, Description, Digest, Nsm, NsmError, Pcr, Refusal, fill_random};
use zeroize::Zeroizing;

use crate::document;
use crate::error::SoftwareNsmError;
use crate::leaf::Leaf;
use crate::pki::Pki;
use crate::registers::{MAX_PCRS, Registers};

/// A Nitro Secure Module in software. Each instance is another enclave, with its own module id and
/// signing key.
pub struct SoftwareNsm {
    pki: Pki,
    module_id: String,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
    state: Mutex<State>,
}

struct State {
    registers: Registers,
    leaf: Leaf,
}

impl SoftwareNsm {
    /// A module below `pki` that reports `pcrs`, SHA-384 values by index below 16, and zeros for
    /// the others.
    ///
    /// # Errors
    /// [`SoftwareNsmError::Register`] for an index that is not measured before an enclave starts,
    /// or when the cryptographic library fails.
    pub fn new(pki: &Pki, pcrs: BTreeMap<u16, [u8; 48]>) -> Result<Self, SoftwareNsmError> {
        Self::with_clock(pki, pcrs, SystemTime::now)
    }

    /// A module that takes the time from `clock`.
    ///
    /// # Errors
    /// Those of [`SoftwareNsm::new`].
    pub fn with_clock(
        pki: &Pki,
        pcrs: BTreeMap<u16, [u8; 48]>,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Result<Self, SoftwareNsmError> {
        let registers = Registers::new(&pcrs)?;
        let module_id = module_id()?;
        let leaf = Leaf::issue(pki, &module_id, clock())?;
        let state = Mutex::new(State { registers, leaf });
        Ok(Self {
            pki: pki.clone(),
            module_id,
            clock: Box::new(clock),
            state,
        })
    }

    /// Does what init does in an image before the application starts: makes a P-256 key, extends
    /// PCR16 with its public half (SEC 1, uncompressed) and locks the registers from there on.
    /// Returns the private half.
    ///
    /// # Errors
    /// The second time, because the register is locked; or when the cryptographic library fails.
    pub fn make_boot_key(&self) -> Result<Zeroizing<[u8; 32]>, SoftwareNsmError> {
        let key = PrivateKey::generate(&ECDH_P256).map_err(|_| SoftwareNsmError::BootKey)?;
        let public = key
            .compute_public_key()
            .map_err(|_| SoftwareNsmError::BootKey)?;
        let registers = &mut self.state().registers;
        registers
            .extend(16, public.as_ref())
            .map_err(|_| SoftwareNsmError::BootKey)?;
        registers
            .lock_range(MAX_PCRS)
            .map_err(|_| SoftwareNsmError::BootKey)?;
        let scalar: EcPrivateKeyBin<'_> =
            key.as_be_bytes().map_err(|_| SoftwareNsmError::BootKey)?;
        Ok(Zeroizing::new(
            scalar
                .as_ref()
                .try_into()
                .expect("a scalar of P-256 has 32 bytes"),
        ))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nsm for SoftwareNsm {
    fn describe(&self) -> Result<Description, NsmError> {
        Ok(Description {
            module_id: self.module_id.clone(),
            version: (1, 0, 0),
            max_pcrs: MAX_PCRS,
            locked_pcrs: self.state().registers.locked(),
            digest: Digest::Sha384,
        })
    }

    fn random(&self, out: &mut [u8]) -> Result<(), NsmError> {
        fill_random(out, || {
            let mut chunk = Zeroizing::new(vec![0; RANDOM_CHUNK_LEN]);
            getrandom::fill(&mut chunk).map_err(|_| Refusal::Internal)?;
            Ok(chunk)
        })
    }

    fn attest(&self, claims: &Claims) -> Result<Vec<u8>, NsmError> {
        claims.check_lengths()?;
        let now = (self.clock)();
        let since_epoch = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(|_| Refusal::Internal)?;
        let timestamp_ms = u64::try_from(since_epoch.as_millis()).map_err(|_| Refusal::Internal)?;

        let mut state = self.state();
        if state.leaf.is_due(now) {
            state.leaf =
                Leaf::issue(&self.pki, &self.module_id, now).map_err(|_| Refusal::Internal)?;
        }
        let document = document::sign(
            &self.pki,
            &state.leaf,
            &self.module_id,
            timestamp_ms,
            &state.registers,
            claims,
        );
        Ok(document.ok_or(Refusal::Internal)?)
    }

    fn describe_pcr(&self, index: u16) -> Result<Pcr, NsmError> {
        Ok(self.state().registers.describe(index)?)
    }

    fn extend_pcr(&self, index: u16, data: &[u8]) -> Result<[u8; 48], NsmError> {
        Ok(self.state().registers.extend(index, data)?)
    }

    fn lock_pcr(&self, index: u16) -> Result<(), NsmError> {
        Ok(self.state().registers.lock(index)?)
    }

    fn lock_pcrs(&self, range: u16) -> Result<(), NsmError> {
        Ok(self.state().registers.lock_range(range)?)
    }
}

impl fmt::Debug for SoftwareNsm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftwareNsm")
            .field("module_id", &self.module_id)
            .finish_non_exhaustive()
    }
}

/// `i-<17 hex digits>-enc<16 hex digits>`, as AWS writes it.
fn module_id() -> Result<String, SoftwareNsmError> {
    let mut random = [0; 17];
    getrandom::fill(&mut random).map_err(SoftwareNsmError::Random)?;
    let hex = const_hex::encode(random);
    Ok(format!("i-{}-enc{}", &hex[..17], &hex[17..33]))
}

/// In bytes; what the device returns at once.
const RANDOM_CHUNK_LEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn module() -> SoftwareNsm {
        let pcrs = (0..3)
            .map(|index| (index, [u8::try_from(index).unwrap() + 1; 48]))
            .collect();
        SoftwareNsm::new(&Pki::generate().unwrap(), pcrs).unwrap()
    }

    fn refusal<T: fmt::Debug>(result: Result<T, NsmError>) -> Refusal {
        match result.unwrap_err() {
            NsmError::Refused(refusal) => refusal,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn describes_itself_as_the_device_does() {
        let description = module().describe().unwrap();
        let (instance, enclave) = description.module_id.split_once("-enc").unwrap();
        assert_eq!((instance.len(), enclave.len()), (2 + 17, 16));
        assert!(instance.starts_with("i-"));
        assert_eq!(description.max_pcrs, 32);
        assert_eq!(description.digest, Digest::Sha384);
        assert_eq!(description.locked_pcrs, (0..16).collect());
        assert_ne!(
            module().describe().unwrap().module_id,
            description.module_id
        );
    }

    #[test]
    fn measured_registers_are_locked_from_the_start() {
        let nsm = module();
        for index in 0..16 {
            assert!(nsm.describe_pcr(index).unwrap().locked);
            assert_eq!(
                refusal(nsm.extend_pcr(index, b"data")),
                Refusal::ReadOnlyIndex
            );
            assert_eq!(refusal(nsm.lock_pcr(index)), Refusal::ReadOnlyIndex);
        }
        assert_eq!(nsm.describe_pcr(1).unwrap().value, [2; 48]);
        assert_eq!(nsm.describe_pcr(3).unwrap().value, [0; 48]);
    }

    #[test]
    fn the_others_are_extended_until_they_are_locked() {
        let nsm = module();
        let hash = |data: &[u8]| {
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, data)
                .as_ref()
                .to_vec()
        };
        let once = nsm.extend_pcr(16, b"boot key").unwrap();
        assert_eq!(once.to_vec(), hash(&[&[0; 48][..], b"boot key"].concat()));
        let twice = nsm.extend_pcr(16, b"").unwrap();
        assert_eq!(twice.to_vec(), hash(&once));
        assert_eq!(
            nsm.describe_pcr(16).unwrap(),
            Pcr {
                locked: false,
                value: twice
            }
        );

        nsm.lock_pcr(16).unwrap();
        assert_eq!(
            nsm.describe_pcr(16).unwrap(),
            Pcr {
                locked: true,
                value: twice
            }
        );
        assert_eq!(
            refusal(nsm.extend_pcr(16, b"again")),
            Refusal::ReadOnlyIndex
        );
        assert_eq!(refusal(nsm.lock_pcr(16)), Refusal::ReadOnlyIndex);
        assert_eq!(nsm.describe().unwrap().locked_pcrs, (0..17).collect());
    }

    #[test]
    fn a_range_is_locked_whether_or_not_some_of_it_is() {
        let nsm = module();
        nsm.lock_pcrs(20).unwrap();
        assert_eq!(nsm.describe().unwrap().locked_pcrs, (0..20).collect());
        nsm.lock_pcrs(32).unwrap();
        assert_eq!(nsm.describe().unwrap().locked_pcrs, (0..32).collect());
        assert_eq!(refusal(nsm.lock_pcrs(33)), Refusal::InvalidIndex);
    }

    #[test]
    fn there_is_no_register_beyond_the_last() {
        let nsm = module();
        assert!(nsm.describe_pcr(31).is_ok());
        assert_eq!(refusal(nsm.describe_pcr(32)), Refusal::InvalidIndex);
        assert_eq!(refusal(nsm.extend_pcr(32, b"data")), Refusal::InvalidIndex);
        assert_eq!(refusal(nsm.lock_pcr(u16::MAX)), Refusal::InvalidIndex);
        let pcrs = BTreeMap::from([(16, [1; 48])]);
        let error = SoftwareNsm::new(&Pki::generate().unwrap(), pcrs).unwrap_err();
        assert!(matches!(error, SoftwareNsmError::Register(16)), "{error}");
    }

    #[test]
    fn random_fills_everything_and_does_not_repeat() {
        let nsm = module();
        let mut outs = [[0; 600]; 2];
        for out in &mut outs {
            nsm.random(out).unwrap();
            assert!(
                out.chunks(100)
                    .all(|part| part.iter().any(|byte| *byte != 0))
            );
        }
        assert_ne!(outs[0], outs[1]);
    }

    #[test]
    fn claims_that_are_too_long_are_refused_as_by_the_device() {
        let claims = Claims {
            user_data: Some(vec![0; 513]),
            ..Claims::default()
        };
        assert!(matches!(
            module().attest(&claims),
            Err(NsmError::ClaimLength {
                claim: "user_data",
                ..
            })
        ));
    }
}
