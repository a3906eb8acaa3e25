//! Seals a key into an envelope.

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use aws_lc_rs::rand;
use cloister_protocol::row::Envelope;
use cloister_protocol::{Code, Rejection};
use cloister_signing::address;

use super::envelope::Parts;
use super::{RowContents, RowHeader, additional_data, row_key};
use crate::data_key::FreshDataKey;

/// Seals a key under a data key that KMS made for this enclave, which seals nothing else. The
/// envelope belongs into the row under the data key's [`cmk_arn`](crate::DataKey::cmk_arn).
///
/// # Errors
/// [`SealError`] if the header names another address than the key has, or if there is no
/// randomness.
pub fn seal(
    header: &RowHeader,
    contents: &RowContents,
    data_key: FreshDataKey,
) -> Result<Envelope, SealError> {
    if address(&contents.key) != header.address {
        return Err(SealError::Address);
    }
    // A data key seals one row: the nonce cannot repeat under it.
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce).map_err(|_| SealError::Randomness)?;
    Ok(seal_with_nonce(header, contents, &data_key, nonce))
}

pub(super) fn seal_with_nonce(
    header: &RowHeader,
    contents: &RowContents,
    data_key: &FreshDataKey,
    nonce: [u8; NONCE_LEN],
) -> Envelope {
    let data_key = data_key.as_data_key();
    let aad = additional_data(
        header,
        data_key.id(),
        data_key.wrapped_digest(),
        data_key.cmk_arn(),
    );
    // Encrypted in place: no plaintext remains.
    let mut sealed = contents.encode();
    let tag = row_key(data_key.expose(), header)
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            sealed.as_mut_slice(),
        )
        .expect("AES-256-GCM seals everything shorter than 64 GiB");
    let sealed = [sealed.as_slice(), tag.as_ref()].concat();
    let parts = Parts {
        origin: header.origin,
        dek_id: data_key.id(),
        wrapped: data_key.wrapped(),
        nonce,
        sealed: &sealed,
    };
    Envelope(parts.encode())
}

/// A key that was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The header names another address than the key has.
    #[error("the address is not the key's")]
    Address,
    /// The random number generator failed.
    #[error("failed to get randomness")]
    Randomness,
}

impl From<SealError> for Rejection {
    fn from(_: SealError) -> Self {
        Self::new(Code::Internal, "failed to seal the key")
    }
}
