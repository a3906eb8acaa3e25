//! GenerateDataKey, Encrypt, Decrypt.

use std::collections::BTreeSet;

use aws_lc_rs::rand;
use base64::{Engine, prelude::BASE64_STANDARD};
use cloister_attestation::UnixTime;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Call;
use crate::{
    blob::Blob,
    ciphertext::{self, EncryptionContext},
    error::KmsError,
    keys::Key,
    recipient::{AttestedRecipient, Recipient},
};

const ALGORITHM: &str = "SYMMETRIC_DEFAULT";
/// Longest plaintext of Encrypt, bytes.
const MAX_PLAINTEXT_LEN: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct GenerateDataKey {
    key_id: String,
    #[serde(default)]
    encryption_context: EncryptionContext,
    key_spec: Option<String>,
    number_of_bytes: Option<usize>,
    recipient: Option<Recipient>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Decrypt {
    ciphertext_blob: Blob,
    key_id: Option<String>,
    #[serde(default)]
    encryption_context: EncryptionContext,
    encryption_algorithm: Option<String>,
    recipient: Option<Recipient>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Encrypt {
    key_id: String,
    plaintext: Blob,
    #[serde(default)]
    encryption_context: EncryptionContext,
    encryption_algorithm: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct ReEncrypt {
    #[serde(rename = "CiphertextBlob")]
    _ciphertext_blob: Blob,
    source_key_id: String,
    destination_key_id: String,
    #[serde(default)]
    source_encryption_context: EncryptionContext,
    #[serde(default)]
    destination_encryption_context: EncryptionContext,
    #[serde(default)]
    dry_run: bool,
}

impl Call<'_> {
    pub(super) fn generate_data_key(
        &mut self,
        parameters: &GenerateDataKey,
    ) -> Result<Value, KmsError> {
        let length = match (parameters.key_spec.as_deref(), parameters.number_of_bytes) {
            (Some("AES_256"), None) => 32,
            (Some("AES_128"), None) => 16,
            (None, Some(length @ 1..=1024)) => length,
            _ => {
                return Err(KmsError::validation(
                    "either KeySpec or NumberOfBytes from 1 to 1024 is needed",
                ));
            }
        };
        let key = self.kms.keys.find(&parameters.key_id)?;
        let recipient = self.authorize_cryptography(
            &key,
            "GenerateDataKey",
            &parameters.encryption_context,
            parameters.recipient.as_ref(),
        )?;
        expect_real_run(parameters.dry_run)?;

        let mut data_key = Zeroizing::new(vec![0; length]);
        rand::fill(&mut data_key).map_err(|_| KmsError::internal("no random numbers"))?;
        let blob = ciphertext::seal(
            key.id,
            key.material()?,
            &parameters.encryption_context,
            &data_key,
        )
        .map_err(|_| KmsError::internal("the data key could not be sealed"))?;
        let mut reply = self.reply(&key, recipient, &data_key)?;
        reply["CiphertextBlob"] = BASE64_STANDARD.encode(blob).into();
        Ok(reply)
    }

    pub(super) fn decrypt(&mut self, parameters: &Decrypt) -> Result<Value, KmsError> {
        expect_symmetric(parameters.encryption_algorithm.as_deref())?;
        let blob = &parameters.ciphertext_blob.0;
        let key = ciphertext::key_id(blob)
            .and_then(|id| self.kms.keys.with_id(id))
            .ok_or_else(KmsError::invalid_ciphertext)?;
        if let Some(named) = &parameters.key_id
            && self.kms.keys.find(named)?.id != key.id
        {
            let message = "The key ID in the request does not identify a CMK that can perform this operation.";
            return Err(KmsError::new("IncorrectKeyException", message));
        }
        let recipient = self.authorize_cryptography(
            &key,
            "Decrypt",
            &parameters.encryption_context,
            parameters.recipient.as_ref(),
        )?;
        expect_real_run(parameters.dry_run)?;

        let plaintext = ciphertext::open(
            key.id,
            key.material()?,
            &parameters.encryption_context,
            blob,
        )
        .map_err(|_| KmsError::invalid_ciphertext())?;
        let mut reply = self.reply(&key, recipient, &plaintext)?;
        reply["EncryptionAlgorithm"] = ALGORITHM.into();
        Ok(reply)
    }

    pub(super) fn encrypt(&mut self, parameters: &Encrypt) -> Result<Value, KmsError> {
        expect_symmetric(parameters.encryption_algorithm.as_deref())?;
        let plaintext = &parameters.plaintext.0;
        if plaintext.is_empty() || plaintext.len() > MAX_PLAINTEXT_LEN {
            return Err(KmsError::validation("Plaintext has 1 to 4096 bytes"));
        }
        let key = self.kms.keys.find(&parameters.key_id)?;
        self.authorize_cryptography(&key, "Encrypt", &parameters.encryption_context, None)?;
        expect_real_run(parameters.dry_run)?;

        let blob = ciphertext::seal(
            key.id,
            key.material()?,
            &parameters.encryption_context,
            plaintext,
        )
        .map_err(|_| KmsError::internal("the plaintext could not be sealed"))?;
        Ok(json!({
            "CiphertextBlob": BASE64_STANDARD.encode(blob),
            "EncryptionAlgorithm": ALGORITHM,
            "KeyId": self.kms.keys.arn(&key),
        }))
    }

    /// Decided as KMS decides it; not performed.
    pub(super) fn re_encrypt(&mut self, parameters: &ReEncrypt) -> Result<Value, KmsError> {
        let source = self.kms.keys.find(&parameters.source_key_id)?;
        self.authorize_cryptography(
            &source,
            "ReEncryptFrom",
            &parameters.source_encryption_context,
            None,
        )?;
        let destination = self.kms.keys.find(&parameters.destination_key_id)?;
        self.authorize_cryptography(
            &destination,
            "ReEncryptTo",
            &parameters.destination_encryption_context,
            None,
        )?;
        expect_real_run(parameters.dry_run)?;
        Err(KmsError::new(
            "UnsupportedOperationException",
            "the policy allows it; the local KMS does not do it",
        ))
    }

    /// Verifies the document first: the policy decides on its measurements.
    fn authorize_cryptography(
        &mut self,
        key: &Key,
        operation: &str,
        context: &EncryptionContext,
        recipient: Option<&Recipient>,
    ) -> Result<Option<AttestedRecipient>, KmsError> {
        // Condition keys are compared without regard to case; two spellings of one would leave the
        // policy to guess.
        let spellings: BTreeSet<_> = context.keys().map(|key| key.to_ascii_lowercase()).collect();
        if spellings.len() != context.len() || spellings.contains("") {
            return Err(KmsError::validation(
                "the encryption context has an empty key, or two that differ by case only",
            ));
        }
        let now = UnixTime::since_unix_epoch(self.now);
        let attested = recipient
            .map(|recipient| recipient.verify(&self.kms.trust, now))
            .transpose()?;

        let context = context
            .iter()
            .map(|(key, value)| (format!("kms:EncryptionContext:{key}"), value.clone()));
        let measured = attested.iter().flat_map(AttestedRecipient::condition_keys);
        let condition_keys: Vec<_> = context.chain(measured).collect();
        self.authorize(key, operation, condition_keys)?;
        Ok(attested)
    }

    /// With a recipient the reply holds the plaintext encrypted to it only.
    fn reply(
        &self,
        key: &Key,
        recipient: Option<AttestedRecipient>,
        plaintext: &[u8],
    ) -> Result<Value, KmsError> {
        let mut reply = json!({ "KeyId": self.kms.keys.arn(key) });
        match recipient {
            Some(recipient) => {
                reply["CiphertextForRecipient"] =
                    BASE64_STANDARD.encode(recipient.encrypt(plaintext)?).into();
            }
            None => reply["Plaintext"] = BASE64_STANDARD.encode(plaintext).into(),
        }
        Ok(reply)
    }
}

/// A dry run ends where the policy has allowed it.
fn expect_real_run(dry_run: bool) -> Result<(), KmsError> {
    match dry_run {
        false => Ok(()),
        true => Err(KmsError::new(
            "DryRunOperationException",
            "the call would have been performed",
        )),
    }
}

fn expect_symmetric(algorithm: Option<&str>) -> Result<(), KmsError> {
    match algorithm {
        None | Some(ALGORITHM) => Ok(()),
        Some(_) => Err(KmsError::new(
            "InvalidKeyUsageException",
            "the keys of this KMS are symmetric",
        )),
    }
}
