//! What an attested call may get back.

use aws_sdk_kms::primitives::Blob;

use super::KmsError;
use crate::cms::{self, RecipientKey};
use crate::data_key::KeyBytes;

/// Opens a reply: about the adopted key, encrypted to us, and with no plaintext beside it.
pub(super) fn open_reply(
    arn: &str,
    key: &RecipientKey,
    key_id: Option<&str>,
    plaintext: Option<&Blob>,
    for_recipient: Option<&Blob>,
) -> Result<KeyBytes, KmsError> {
    if key_id != Some(arn) {
        return Err(KmsError::ReplyRefused("about another key"));
    }
    // An empty plaintext is what the SDK makes of an absent one. Anything more means that the
    // recipient was ignored.
    if plaintext.is_some_and(|plaintext| !plaintext.as_ref().is_empty()) {
        return Err(KmsError::ReplyRefused("with a plaintext"));
    }
    let for_recipient = for_recipient.ok_or(KmsError::ReplyRefused(
        "without a ciphertext for the recipient",
    ))?;
    cms::unwrap_data_key(key, for_recipient.as_ref()).map_err(|error| {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the ciphertext for the recipient was refused"
        );
        KmsError::ReplyRefused("with an unacceptable ciphertext for the recipient")
    })
}
