//! Replies to attested calls.

use aws_sdk_kms::operation::decrypt::DecryptOutput;
use aws_sdk_kms::operation::generate_data_key::GenerateDataKeyOutput;
use aws_sdk_kms::primitives::Blob;
use cloister_contract::{ErrorChain, events};

use super::error::KmsError;
use crate::cms::{self, RecipientKey};
use crate::data_key::KeyBytes;

/// A reply that carries a key for the recipient.
pub(super) trait AttestedReply {
    /// The ARN of the CMK.
    fn key_id(&self) -> Option<&str>;
    /// The key in the clear, which must be missing.
    fn plaintext(&self) -> Option<&Blob>;
    /// The key, encrypted to the recipient.
    fn for_recipient(&self) -> Option<&Blob>;
}

macro_rules! attested_reply {
    ($reply:ty) => {
        impl AttestedReply for $reply {
            fn key_id(&self) -> Option<&str> {
                self.key_id()
            }

            fn plaintext(&self) -> Option<&Blob> {
                self.plaintext()
            }

            fn for_recipient(&self) -> Option<&Blob> {
                self.ciphertext_for_recipient()
            }
        }
    };
}

attested_reply!(GenerateDataKeyOutput);
attested_reply!(DecryptOutput);

/// Decrypts the key in a reply, which must be about the adopted key, encrypted to us, and without
/// a plaintext.
pub(super) fn open(
    arn: &str,
    key: &RecipientKey,
    reply: &impl AttestedReply,
) -> Result<KeyBytes, KmsError> {
    if reply.key_id() != Some(arn) {
        return Err(KmsError::ReplyRefused("about another key"));
    }
    // The SDK turns an absent plaintext into an empty one. Anything more means that the recipient
    // was ignored.
    if reply
        .plaintext()
        .is_some_and(|plaintext| !plaintext.as_ref().is_empty())
    {
        return Err(KmsError::ReplyRefused("with a plaintext"));
    }
    let for_recipient = reply.for_recipient().ok_or(KmsError::ReplyRefused(
        "without a ciphertext for the recipient",
    ))?;
    cms::unwrap_data_key(key, for_recipient.as_ref()).map_err(|error| {
        tracing::warn!(
            event = events::KMS_REPLY_REFUSED,
            error = %ErrorChain(&error),
            "refused a ciphertext for the recipient"
        );
        KmsError::ReplyRefused("with an unacceptable ciphertext for the recipient")
    })
}
