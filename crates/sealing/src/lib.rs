#![doc = include_str!("../README.md")]
#![doc = include_str!("../SPEC.md")]

mod adoption;
mod arn;
mod capability;
pub mod cms;
mod data_key;
#[cfg(test)]
mod fake_kms;
pub mod hazmat;
mod kms;
mod recipient;
mod row;
mod timestamp;
mod unsealer;

pub use adoption::{AdoptedKey, AdoptionError, adopt};
pub use capability::{Capabilities, Capability};
pub use data_key::{DataKey, DekId, FreshDataKey};
pub use kms::{AttestedKms, KmsError, encryption_context};
pub use recipient::{KMS_DOCUMENT_TAG, Recipient, RecipientError};
pub use row::{
    MalformedEnvelope, OpenError, OpenedRow, Origin, ROW_FORMAT, RowContents, RowHeader,
    RowSigningError, SealError, UnsupportedContents, open_with, seal, wrapped_data_key,
};
pub use unsealer::Unsealer;
