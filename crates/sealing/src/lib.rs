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
mod moment;
mod opener;
mod recipient;
mod row;

pub use adoption::{AdoptedKey, AdoptionError, adopt};
pub use capability::{Capabilities, Capability};
pub use data_key::{DataKey, DekId, FreshDataKey};
pub use kms::{AttestedKms, KmsError, Service};
pub use opener::Opener;
pub use recipient::{KMS_DOCUMENT_TAG, Recipient, RecipientError};
pub use row::{
    MalformedEnvelope, OpenError, OpenedRow, Origin, ROW_FORMAT, RowContents, RowHeader,
    RowSigningError, SealError, UnsupportedContents, open_with, seal,
};
