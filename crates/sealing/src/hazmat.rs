//! Data keys out of nowhere, for benchmarks, vectors and tests of what lies above this crate.
//!
//! Everywhere else a data key comes from KMS, released to a measured image. A service that calls
//! these functions has given that up: whoever chose the bytes can open every row sealed under them.

use std::sync::Arc;

use crate::data_key::{DataKey, DekId, FreshDataKey, KeyBytes};

/// A data key made of `key`, which is wiped; it claims to have come from `cmk_arn` wrapped as
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
