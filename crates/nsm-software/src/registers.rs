//! The 32 registers: extended by hashing, locked for good.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{Context, SHA384};
use cloister_nsm::{Pcr, Refusal};

use crate::error::SoftwareNsmError;

/// The registers of one enclave.
pub(crate) struct Registers {
    pcrs: Vec<Pcr>,
}

impl Registers {
    /// `measured` are those the enclave was started with; the rest are zeros. 0–15 are locked.
    pub(crate) fn new(measured: &BTreeMap<u16, [u8; 48]>) -> Result<Self, SoftwareNsmError> {
        if let Some(index) = measured.keys().find(|index| **index >= MEASURED) {
            return Err(SoftwareNsmError::Register(*index));
        }
        let pcr = |index| Pcr {
            locked: index < MEASURED,
            value: measured.get(&index).copied().unwrap_or([0; 48]),
        };
        Ok(Self {
            pcrs: (0..MAX_PCRS).map(pcr).collect(),
        })
    }

    pub(crate) fn describe(&self, index: u16) -> Result<Pcr, Refusal> {
        self.pcrs
            .get(usize::from(index))
            .copied()
            .ok_or(Refusal::InvalidIndex)
    }

    /// PCR = SHA-384(PCR ‖ data)
    pub(crate) fn extend(&mut self, index: u16, data: &[u8]) -> Result<[u8; 48], Refusal> {
        let pcr = self.unlocked(index)?;
        let mut context = Context::new(&SHA384);
        context.update(&pcr.value);
        context.update(data);
        pcr.value.copy_from_slice(context.finish().as_ref());
        Ok(pcr.value)
    }

    pub(crate) fn lock(&mut self, index: u16) -> Result<(), Refusal> {
        self.unlocked(index)?.locked = true;
        Ok(())
    }

    pub(crate) fn lock_range(&mut self, range: u16) -> Result<(), Refusal> {
        let pcrs = self
            .pcrs
            .get_mut(..usize::from(range))
            .ok_or(Refusal::InvalidIndex)?;
        pcrs.iter_mut().for_each(|pcr| pcr.locked = true);
        Ok(())
    }

    pub(crate) fn locked(&self) -> BTreeSet<u16> {
        (0..MAX_PCRS)
            .zip(&self.pcrs)
            .filter(|(_, pcr)| pcr.locked)
            .map(|(index, _)| index)
            .collect()
    }

    /// The registers that a document lists: those that are locked.
    pub(crate) fn reported(&self) -> impl Iterator<Item = (u16, [u8; 48])> {
        (0..MAX_PCRS)
            .zip(&self.pcrs)
            .filter(|(_, pcr)| pcr.locked)
            .map(|(index, pcr)| (index, pcr.value))
    }

    fn unlocked(&mut self, index: u16) -> Result<&mut Pcr, Refusal> {
        let pcr = self
            .pcrs
            .get_mut(usize::from(index))
            .ok_or(Refusal::InvalidIndex)?;
        if pcr.locked {
            Err(Refusal::ReadOnlyIndex)
        } else {
            Ok(pcr)
        }
    }
}

/// Number of registers of a module.
pub(crate) const MAX_PCRS: u16 = 32;

/// The registers before this one are measured before the enclave starts, or never.
const MEASURED: u16 = 16;
