//! Capabilities: one bit for each kind of payload that a key may sign.

use std::fmt;

/// One kind of payload that a key may be allowed to sign. `SPEC.md` §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Transactions that the enclave builds and hashes itself.
    Transaction = 0,
    /// A UserOp hash, signed as it is: a blind signature.
    UserOpHash = 1,
}

impl Capability {
    const ALL: [Self; 2] = [Self::Transaction, Self::UserOpHash];

    fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(u32);

impl Capabilities {
    /// Nothing: what a canary may sign.
    pub const NONE: Self = Self(0);

    /// True if `capability` is in the set.
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// `None` when a bit is set that this version does not know: it may mean a permission, but also
    /// a restriction.
    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        let known = Capability::ALL.into_iter().collect::<Self>();
        (bits & !known.0 == 0).then_some(Self(bits))
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(
            capabilities
                .into_iter()
                .fold(0, |bits, capability| bits | capability.bit()),
        )
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(
                Capability::ALL
                    .into_iter()
                    .filter(|capability| self.contains(*capability)),
            )
            .finish()
    }
}
