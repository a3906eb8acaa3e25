//! The trait that everything which needs the NSM asks for.

use crate::claims::Claims;
use crate::description::{Description, Pcr};
use crate::error::NsmError;

/// A Nitro Secure Module. All calls block.
pub trait Nsm: Send + Sync + 'static {
    /// The module's description.
    ///
    /// # Errors
    /// When the module refuses or cannot be reached.
    fn describe(&self) -> Result<Description, NsmError>;

    /// Fills all of `out` with random bytes. After an error `out` holds zeros.
    ///
    /// # Errors
    /// [`NsmError::ShortRandom`] and [`NsmError::ConstantRandom`] when what the module returns
    /// cannot be random, or when it refuses or cannot be reached.
    fn random(&self, out: &mut [u8]) -> Result<(), NsmError>;

    /// An attestation document over `claims` and the registers as they are now: an untagged
    /// COSE_Sign1.
    ///
    /// # Errors
    /// [`NsmError::ClaimLength`] when a claim does not have a length that every verifier accepts,
    /// or when the module refuses or cannot be reached.
    fn attest(&self, claims: &Claims) -> Result<Vec<u8>, NsmError>;

    /// One register.
    ///
    /// # Errors
    /// [`Refusal::InvalidIndex`](crate::Refusal::InvalidIndex) for an index the module does not
    /// have, or when it cannot be reached.
    fn describe_pcr(&self, index: u16) -> Result<Pcr, NsmError>;

    /// Replaces a register with SHA-384(register ‖ data) and returns the new value.
    ///
    /// # Errors
    /// [`Refusal::ReadOnlyIndex`](crate::Refusal::ReadOnlyIndex) for a locked register,
    /// [`Refusal::InvalidIndex`](crate::Refusal::InvalidIndex) for an index the module does not
    /// have, or when it cannot be reached.
    fn extend_pcr(&self, index: u16, data: &[u8]) -> Result<[u8; 48], NsmError>;

    /// Locks a register until the enclave ends.
    ///
    /// # Errors
    /// [`Refusal::ReadOnlyIndex`](crate::Refusal::ReadOnlyIndex) for a register that is locked
    /// already, [`Refusal::InvalidIndex`](crate::Refusal::InvalidIndex) for an index the module
    /// does not have, or when it cannot be reached.
    fn lock_pcr(&self, index: u16) -> Result<(), NsmError>;

    /// Locks the registers `0..range` until the enclave ends; those locked already stay so.
    ///
    /// # Errors
    /// [`Refusal::InvalidIndex`](crate::Refusal::InvalidIndex) for a range beyond the last
    /// register, or when the module cannot be reached.
    fn lock_pcrs(&self, range: u16) -> Result<(), NsmError>;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Callers hold an `Arc<dyn Nsm>`.
    struct _ObjectSafe(Arc<dyn Nsm>);
}
