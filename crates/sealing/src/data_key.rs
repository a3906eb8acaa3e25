//! Data keys: 32 bytes that KMS generated for this enclave, and their binding to a CMK.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Longest wrapped data key, in bytes: the limit of a `CiphertextBlob` in the KMS API. Real ones
/// have fewer than 200.
pub(crate) const MAX_WRAPPED_LEN: usize = 6144;

/// The name of a data key: 16 random bytes, 32 lower-case hex digits in a KMS encryption context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DekId([u8; 16]);

impl DekId {
    /// The name made of these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A new random name; `None` if there is no randomness.
    pub(crate) fn random() -> Option<Self> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The 16 bytes, as in an envelope.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for DekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A data key that KMS released to this enclave. Opens rows, seals none.
///
/// Boxed so that moves leave no copies behind, wiped when dropped; no `Clone`, no `PartialEq`, no
/// `Serialize`, and its `Debug` does not show the key.
pub struct DataKey {
    id: DekId,
    wrapped: Box<[u8]>,
    wrapped_digest: [u8; 32],
    cmk_arn: Arc<str>,
    key: KeyBytes,
}

impl DataKey {
    pub(crate) fn new(id: DekId, wrapped: &[u8], cmk_arn: Arc<str>, key: KeyBytes) -> Self {
        Self {
            id,
            wrapped: wrapped.into(),
            wrapped_digest: wrapped_digest(wrapped),
            cmk_arn,
            key,
        }
    }

    /// The name under which it was made.
    pub fn id(&self) -> DekId {
        self.id
    }

    /// The key as KMS encrypted it; only that CMK can open it, and only for an attested enclave.
    pub fn wrapped(&self) -> &[u8] {
        &self.wrapped
    }

    /// SHA-256 of [`DataKey::wrapped`].
    pub(crate) fn wrapped_digest(&self) -> &[u8; 32] {
        &self.wrapped_digest
    }

    /// The CMK that released it.
    pub fn cmk_arn(&self) -> &str {
        &self.cmk_arn
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.key.0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKey")
            .field("id", &self.id)
            .field("cmk_arn", &self.cmk_arn)
            .finish_non_exhaustive()
    }
}

/// A data key that KMS generated for this enclave in this boot: the only kind that seals, and it
/// seals one row. A key that was unwrapped from a row may have been chosen by the row's writer.
#[derive(Debug)]
pub struct FreshDataKey(DataKey);

impl FreshDataKey {
    pub(crate) fn new(key: DataKey) -> Self {
        Self(key)
    }

    /// The same key, for opening.
    pub fn as_data_key(&self) -> &DataKey {
        &self.0
    }
}

/// The 32 bytes of a data key on their way from the unwrap into a [`DataKey`].
#[derive(ZeroizeOnDrop)]
pub(crate) struct KeyBytes(Box<[u8; 32]>);

impl KeyBytes {
    /// Copies the key; the caller wipes `bytes`. `None` unless there are exactly 32.
    pub(crate) fn copy_from(bytes: &[u8]) -> Option<Self> {
        let mut key = Self(Box::new([0; 32]));
        if bytes.len() != key.0.len() {
            return None;
        }
        key.0.copy_from_slice(bytes);
        Some(key)
    }

    /// Takes the key out of `bytes`, which is wiped.
    pub(crate) fn take(bytes: &mut [u8; 32]) -> Self {
        let mut key = Self(Box::new([0; 32]));
        key.0.copy_from_slice(bytes);
        bytes.zeroize();
        key
    }
}

/// SHA-256 of a wrapped data key.
pub(crate) fn wrapped_digest(wrapped: &[u8]) -> [u8; 32] {
    digest(&SHA256, wrapped)
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}
