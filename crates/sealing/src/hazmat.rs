//! Constructs data keys without KMS. For benchmarks, vectors and dependents' tests only.
//!
//! Everywhere else a data key comes from KMS, released to a measured image. Anyone who chose the
//! bytes of a data key can open every row sealed under it.

use std::sync::Arc;

use crate::data_key::{DataKey, DekId, FreshDataKey, KeyBytes};

/// A data key with the bytes `key`, which are wiped, as if `cmk_arn` had released it for
/// `wrapped`.
pub fn data_key(id: DekId, wrapped: &[u8], cmk_arn: &str, key: &mut [u8; 32]) -> DataKey {
    DataKey::new(id, wrapped, Arc::from(cmk_arn), KeyBytes::take(key))
}

/// The same, for sealing.
pub fn fresh_data_key(
    id: DekId,
    wrapped: &[u8],
    cmk_arn: &str,
    key: &mut [u8; 32],
) -> FreshDataKey {
    FreshDataKey::new(data_key(id, wrapped, cmk_arn, key))
}
