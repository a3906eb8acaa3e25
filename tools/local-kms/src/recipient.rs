//! The Recipient of a call: an attestation document, verified, and the measurements it gives the key's policy.

use cloister_attestation::{DebugMode, Expectations, LIVE_MAX_AGE, TrustRoot, UnixTime, VerifiedDocument, verify};
use serde::Deserialize;

use crate::{enveloped, error::KmsError, operation::Blob};

/// The Recipient member of a call.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Recipient {
    key_encryption_algorithm: String,
    attestation_document: Blob,
}

/// A recipient whose document was verified. Only [`Recipient::verify`] makes one.
pub(crate) struct AttestedRecipient(VerifiedDocument);

impl Recipient {
    pub(crate) fn verify(&self, root: &TrustRoot, now: UnixTime) -> Result<AttestedRecipient, KmsError> {
        if self.key_encryption_algorithm != "RSAES_OAEP_SHA_256" {
            return Err(KmsError::validation("KeyEncryptionAlgorithm is RSAES_OAEP_SHA_256"));
        }
        // As in KMS, a debug-mode document is genuine; what it measures, zeros, is for the policy to refuse.
        let expectations =
            Expectations { max_age: Some(LIVE_MAX_AGE), debug: DebugMode::Allow, ..Expectations::default() };
        verify(&self.attestation_document.0, root, now, &expectations)
            .map(AttestedRecipient)
            .map_err(|error| KmsError::validation(format!("the attestation document is refused: {error}")))
    }
}

impl AttestedRecipient {
    /// The condition keys that the document gives the policy.
    pub(crate) fn condition_keys(&self) -> impl Iterator<Item = (String, String)> {
        self.0.pcrs().iter().flat_map(|(index, value)| {
            let value = const_hex::encode(value);
            let image = (*index == 0).then(|| ("kms:RecipientAttestation:ImageSha384".to_owned(), value.clone()));
            image.into_iter().chain([(format!("kms:RecipientAttestation:PCR{index}"), value)])
        })
    }

    /// CiphertextForRecipient.
    pub(crate) fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, KmsError> {
        let public_key = self.0.public_key().unwrap_or_default();
        enveloped::encrypt(public_key, plaintext)
            .map_err(|_| KmsError::validation("the attestation document carries no RSA public key"))
    }
}
