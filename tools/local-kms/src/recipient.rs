//! The Recipient of a call: verifies its attestation document and provides the measurements to the
//! key's policy.

use std::collections::BTreeMap;

use cloister_attestation::{DebugMode, Expectations, LIVE_MAX_AGE, TrustRoot, UnixTime, verify};
use cloister_contract::ErrorChain;
use cloister_kms_envelope::Form;
use serde::Deserialize;

use crate::{blob::Blob, error::KmsError, unsigned::UnsignedDocument};

/// Accepted signers of attestation documents.
#[derive(Debug)]
pub(crate) struct Trust {
    /// Root of the certificate chain.
    pub(crate) root: TrustRoot,
    /// Also accept unsigned documents of an emulator.
    pub(crate) unsigned: bool,
}

/// The Recipient member of a call.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Recipient {
    key_encryption_algorithm: String,
    attestation_document: Blob,
}

/// The recipient that an accepted document describes. Only [`Recipient::verify`] makes one.
pub(crate) struct AttestedRecipient {
    pcrs: BTreeMap<u8, [u8; 48]>,
    public_key: Option<Vec<u8>>,
}

impl Recipient {
    pub(crate) fn verify(
        &self,
        trust: &Trust,
        now: UnixTime,
    ) -> Result<AttestedRecipient, KmsError> {
        if self.key_encryption_algorithm != "RSAES_OAEP_SHA_256" {
            return Err(KmsError::validation(
                "KeyEncryptionAlgorithm is RSAES_OAEP_SHA_256",
            ));
        }
        let document = &self.attestation_document.0;
        let unsigned = if trust.unsigned {
            UnsignedDocument::parse(document)
        } else {
            None
        };
        match unsigned {
            Some(unsigned) if unsigned.is_of_now(now) => Ok(AttestedRecipient {
                pcrs: unsigned.pcrs,
                public_key: unsigned.public_key,
            }),
            Some(_) => Err(KmsError::validation(
                "the attestation document of the emulator is not of now",
            )),
            None => verify_signed(document, &trust.root, now),
        }
    }
}

fn verify_signed(
    document: &[u8],
    root: &TrustRoot,
    now: UnixTime,
) -> Result<AttestedRecipient, KmsError> {
    // As in KMS, a debug-mode document is genuine; the policy refuses its measurement, zeros.
    let expectations = Expectations {
        max_age: Some(LIVE_MAX_AGE),
        debug: DebugMode::Allow,
        ..Expectations::default()
    };
    let document = verify(document, root, now, &expectations).map_err(|error| {
        KmsError::validation(format!(
            "the attestation document is refused: {}",
            ErrorChain(&error)
        ))
    })?;
    Ok(AttestedRecipient {
        pcrs: document.pcrs().clone(),
        public_key: document.public_key().map(<[u8]>::to_vec),
    })
}

impl AttestedRecipient {
    /// The policy's condition keys from the document.
    pub(crate) fn condition_keys(&self) -> impl Iterator<Item = (String, String)> {
        self.pcrs.iter().flat_map(|(index, value)| {
            let value = const_hex::encode(value);
            let image = (*index == 0).then(|| {
                (
                    "kms:RecipientAttestation:ImageSha384".to_owned(),
                    value.clone(),
                )
            });
            image
                .into_iter()
                .chain([(format!("kms:RecipientAttestation:PCR{index}"), value)])
        })
    }

    /// CiphertextForRecipient.
    pub(crate) fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, KmsError> {
        let public_key = self.public_key.as_deref().unwrap_or_default();
        cloister_kms_envelope::encrypt(public_key, plaintext, Form::KMS)
            .map_err(|_| KmsError::validation("the attestation document carries no RSA public key"))
    }
}
