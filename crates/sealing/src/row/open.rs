//! Opens a sealed row.

use alloy_primitives::{Address, B256};
use aws_lc_rs::aead::{Aad, Nonce};
use cloister_protocol::{Code, KeyId, Rejection, SealedRow, Verifier};
use cloister_signing::{RecoverableSignature, SigningError, address};
use zeroize::Zeroizing;

use super::contents::{RowContents, UnsupportedContents};
use super::envelope::{MalformedEnvelope, Parts};
use super::{Origin, RowHeader, additional_data, row_key};
use crate::capability::Capabilities;
use crate::data_key::DataKey;
use crate::kms::KmsError;

/// A row whose envelope was opened: all of it was sealed together, by an enclave to which KMS
/// released the data key.
///
/// The private key leaves it as a signature only ([`OpenedRow::sign_prehash`]).
///
/// Only opening makes one. The row need not be the newest one: the owner of the table can put back
/// an older version of the same row.
#[derive(Debug)]
pub struct OpenedRow {
    header: RowHeader,
    contents: RowContents,
}

impl OpenedRow {
    /// The key's id.
    pub fn key_id(&self) -> KeyId {
        self.header.key_id
    }

    /// The address of the key.
    pub fn address(&self) -> Address {
        self.header.address
    }

    /// The origin of the key.
    pub fn origin(&self) -> Origin {
        self.header.origin
    }

    /// The version of the row.
    pub fn version(&self) -> u64 {
        self.header.version
    }

    /// Signs `prehash`, and recovers the signer from the finished signature: only the row's address
    /// passes. Opening does not derive the address of the key, because nothing else uses the key.
    ///
    /// This does not hash, prefix or domain-separate its input.
    ///
    /// # Errors
    /// [`RowSigningError`]; the signature is dropped then.
    pub fn sign_prehash(&self, prehash: &B256) -> Result<RecoverableSignature, RowSigningError> {
        let key = &self.contents.key;
        cloister_signing::sign_prehash(key, prehash, self.header.address).map_err(|error| {
            if address(key) == self.header.address {
                RowSigningError::SelfCheck(error)
            } else {
                RowSigningError::Address
            }
        })
    }

    #[cfg(test)]
    pub(crate) fn key(&self) -> &cloister_protocol::PrivateKey {
        &self.contents.key
    }

    /// Verifies the MACs of the key's owner.
    pub fn verifier(&self) -> &Verifier {
        &self.contents.verifier
    }

    /// The payloads that the key may sign.
    pub fn capabilities(&self) -> Capabilities {
        self.contents.capabilities
    }
}

/// Opens the envelope that the row has under the data key's CMK.
///
/// # Errors
/// [`OpenError`] if there is none, if it is not well-formed, if it was not sealed with this data key
/// for exactly this row, or if its contents are unsupported.
pub fn open_with(row: &SealedRow, data_key: &DataKey) -> Result<OpenedRow, OpenError> {
    open_parts(row, &parts(row, data_key.cmk_arn())?, data_key)
}

/// The envelope that the row has under a CMK, taken apart.
pub(crate) fn parts<'a>(row: &'a SealedRow, cmk_arn: &str) -> Result<Parts<'a>, OpenError> {
    let envelope = row.sealed.get(cmk_arn).ok_or(OpenError::NoEnvelope)?;
    Parts::decode(&envelope.0).map_err(OpenError::Envelope)
}

pub(crate) fn open_parts(
    row: &SealedRow,
    parts: &Parts<'_>,
    data_key: &DataKey,
) -> Result<OpenedRow, OpenError> {
    let header = RowHeader {
        key_id: row.key_id,
        address: row.address,
        origin: parts.origin,
        version: row.version,
    };
    // The envelope's own claims about its data key enter the additional data: false ones do not
    // open.
    let digest = crate::data_key::wrapped_digest(parts.wrapped);
    let aad = additional_data(&header, parts.dek_id, &digest, data_key.cmk_arn());
    let mut buffer = Zeroizing::new(parts.sealed.to_vec());
    let plaintext = row_key(data_key.expose(), &header)
        .open_in_place(
            Nonce::assume_unique_for_key(parts.nonce),
            Aad::from(aad),
            &mut buffer,
        )
        .map_err(|_| OpenError::NotAuthentic)?;
    let contents = RowContents::decode(plaintext).map_err(OpenError::Contents)?;
    Ok(OpenedRow { header, contents })
}

/// A row that was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No envelope under the adopted CMK's ARN.
    #[error("the row has no envelope for the adopted CMK")]
    NoEnvelope,
    /// Malformed envelope.
    #[error("the envelope is malformed")]
    Envelope(#[source] MalformedEnvelope),
    /// Edited, truncated, or of another row, version, CMK or data key: indistinguishable.
    #[error("the envelope was not sealed for this row with this data key")]
    NotAuthentic,
    /// Sealed correctly, with contents of a later version.
    #[error("the contents of the row are not supported")]
    Contents(#[source] UnsupportedContents),
    /// KMS did not release the data key.
    #[error("KMS did not release the data key")]
    Kms(#[source] KmsError),
}

/// The key of an opened row produced no signature for the row's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowSigningError {
    /// The key does not belong to the address: the row was sealed wrongly.
    #[error("the key does not have the address of the row")]
    Address,
    /// The computation went wrong.
    #[error("the signature failed its self-check")]
    SelfCheck(#[source] SigningError),
}

impl From<RowSigningError> for Rejection {
    fn from(error: RowSigningError) -> Self {
        match error {
            RowSigningError::Address => damaged(),
            RowSigningError::SelfCheck(error) => error.into(),
        }
    }
}

impl From<OpenError> for Rejection {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Kms(error) => error.into(),
            OpenError::NoEnvelope => Self::new(
                Code::SealedRowRefused,
                "the sealed row has no envelope for the CMK in use",
            ),
            // One message for the rest: the row comes from outside of the enclave.
            _ => damaged(),
        }
    }
}

fn damaged() -> Rejection {
    Rejection::new(
        Code::SealedRowRefused,
        "the sealed row is damaged or belongs to another key",
    )
}
