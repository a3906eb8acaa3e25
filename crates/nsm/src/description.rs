//! A module's description of itself and of its registers.

use std::collections::BTreeSet;

/// A module's description of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `i-<instance>-enc<enclave>`, as in every document of this module.
    pub module_id: String,
    /// Major, minor and patch version of the module's interface.
    pub version: (u16, u16, u16),
    /// Number of registers.
    pub max_pcrs: u16,
    /// The registers that cannot change any more.
    pub locked_pcrs: BTreeSet<u16>,
    /// The hash function of the registers.
    pub digest: Digest,
}

/// The hash function of a module's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256, 32-byte registers.
    Sha256,
    /// SHA-384, 48-byte registers; the only one that Nitro has used so far.
    Sha384,
    /// SHA-512, 64-byte registers.
    Sha512,
}

/// A platform configuration register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pcr {
    /// The value is final until the enclave ends.
    pub locked: bool,
    /// SHA-384, or zeros if it was never extended.
    pub value: [u8; 48],
}
