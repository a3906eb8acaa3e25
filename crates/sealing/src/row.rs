//! Row format 1: one private key, sealed under a data key and bound to everything the row claims
//! about it. `SPEC.md`.

mod contents;
mod envelope;
mod open;
mod seal;

use alloy_primitives::Address;
use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use cloister_protocol::KeyId;
use zeroize::Zeroizing;

use crate::data_key::DekId;

pub use contents::{RowContents, UnsupportedContents};
pub(crate) use envelope::Parts;
pub use envelope::{MalformedEnvelope, wrapped_data_key};
pub use open::{OpenError, OpenedRow, RowSigningError, open_with};
pub(crate) use open::{open_parts, parts};
pub use seal::{SealError, seal};

/// Version of the row format, first byte of every envelope.
pub const ROW_FORMAT: u8 = 1;
/// Domain label of the row key.
const ROW_KEY_INFO: &[u8] = b"cloister/row/v1";

/// The origin of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Origin {
    /// Generated in an enclave; no other party has ever had it.
    Generated = 1,
    /// Handed over by a caller, who may have kept a copy.
    Imported = 2,
    /// Taken over from a row of the reference deployment.
    Migrated = 3,
}

impl Origin {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Generated, Self::Imported, Self::Migrated]
            .into_iter()
            .find(|origin| *origin as u8 == byte)
    }
}

/// The public statements of a row about its key, all bound by the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowHeader {
    /// The key's id.
    pub key_id: KeyId,
    /// The address of the key.
    pub address: Address,
    /// The origin of the key.
    pub origin: Origin,
    /// 1 for a new row, one more with every change.
    pub version: u64,
}

/// `row key = HKDF-SHA256(ikm = data key, salt = key id, info = "cloister/row/v1" ‖ u64 version)`,
/// 32 bytes, RFC 5869.
fn row_key(data_key: &[u8; 32], header: &RowHeader) -> LessSafeKey {
    struct RowKeyLen;
    impl KeyType for RowKeyLen {
        fn len(&self) -> usize {
            32
        }
    }
    let mut bytes = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, header.key_id.as_bytes())
        .extract(data_key)
        .expand(&[ROW_KEY_INFO, &header.version.to_be_bytes()], RowKeyLen)
        .and_then(|key| key.fill(bytes.as_mut_slice()))
        .expect("HKDF-SHA256 gives up to 8160 bytes, 32 are asked for");
    LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, bytes.as_slice()).expect("AES-256-GCM takes 32 bytes"),
    )
}

/// The additional data of the AEAD: every public statement about the row, each as
/// `u32 length ‖ bytes`.
fn additional_data(
    header: &RowHeader,
    dek_id: DekId,
    wrapped_digest: &[u8; 32],
    cmk_arn: &str,
) -> Vec<u8> {
    let fields: [&[u8]; 8] = [
        &[ROW_FORMAT],
        header.key_id.as_bytes(),
        header.address.as_slice(),
        &[header.origin as u8],
        &header.version.to_be_bytes(),
        dek_id.as_bytes(),
        wrapped_digest,
        cmk_arn.as_bytes(),
    ];
    let mut out = Vec::with_capacity(fields.iter().map(|field| 4 + field.len()).sum());
    for field in fields {
        let length = u32::try_from(field.len())
            .expect("the longest field is an ARN, which DynamoDB bounds to 400 KiB");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(field);
    }
    out
}

#[cfg(test)]
mod tests;
