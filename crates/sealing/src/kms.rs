//! Data keys from KMS, for this attested enclave and nobody else.

mod call;
mod reply;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, EncryptionAlgorithmSpec};
use cloister_protocol::{Code, Rejection};

use crate::adoption::AdoptedKey;
use crate::data_key::{DataKey, DekId, FreshDataKey, MAX_WRAPPED_LEN};
use crate::recipient::{Attested, Recipient};
pub(crate) use call::{limits, log};
use reply::open_reply;

/// Which enclave is asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Signs: opens data keys, makes none.
    Signer,
    /// Makes keys and changes rows.
    KeyGenerator,
}

/// KMS as an attested enclave sees it: one adopted key, every call with the enclave's attestation
/// document, every reply checked to be about that key and to hold nothing in the clear.
pub struct AttestedKms {
    client: RwLock<Client>,
    adopted: AdoptedKey,
    recipient: Arc<Recipient>,
    service: Service,
}

impl AttestedKms {
    /// The adopted key, called through `client`.
    pub fn new(
        client: Client,
        adopted: AdoptedKey,
        recipient: Arc<Recipient>,
        service: Service,
    ) -> Self {
        Self {
            client: RwLock::new(client),
            adopted,
            recipient,
            service,
        }
    }

    /// The key that was adopted for this boot.
    pub fn adopted(&self) -> &AdoptedKey {
        &self.adopted
    }

    /// Goes over to `client`, which has newer credentials, once a DescribeKey with it has named the
    /// adopted key: a foreign account's credentials cannot.
    ///
    /// # Errors
    /// [`KmsError`] when it has not; the old client stays.
    pub async fn replace_client(&self, client: Client) -> Result<(), KmsError> {
        let described = client
            .describe_key()
            .key_id(self.adopted.arn())
            .customize()
            .config_override(limits())
            .send()
            .await
            .map_err(|error| log("DescribeKey", &error))?;
        if described.key_metadata().and_then(|key| key.arn()) != Some(self.adopted.arn()) {
            return Err(KmsError::ReplyRefused("about another key"));
        }
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    /// Has KMS make a data key: GenerateDataKey with this enclave as the recipient.
    ///
    /// # Errors
    /// [`KmsError`]; a signer is [`KmsError::Denied`] without asking.
    pub async fn generate_data_key(&self) -> Result<FreshDataKey, KmsError> {
        if self.service != Service::KeyGenerator {
            return Err(KmsError::Denied);
        }
        let id = DekId::random().ok_or(KmsError::Attestation)?;
        let attested = self.attested().await?;
        let reply = self
            .client()
            .generate_data_key()
            .key_id(self.adopted.arn())
            .key_spec(DataKeySpec::Aes256)
            .set_encryption_context(Some(encryption_context(id)))
            .recipient(attested.recipient_info())
            .customize()
            .config_override(limits())
            .send()
            .await
            .map_err(|error| log("GenerateDataKey", &error))?;
        let key = open_reply(
            self.adopted.arn(),
            &attested.key,
            reply.key_id(),
            reply.plaintext(),
            reply.ciphertext_for_recipient(),
        )?;
        let wrapped = reply.ciphertext_blob().map_or(&[][..], AsRef::as_ref);
        if !(1..=MAX_WRAPPED_LEN).contains(&wrapped.len()) {
            return Err(KmsError::ReplyRefused("without a wrapped data key"));
        }
        Ok(FreshDataKey::new(DataKey::new(
            id,
            wrapped,
            self.adopted.shared_arn(),
            key,
        )))
    }

    /// Has KMS open a data key: Decrypt with this enclave as the recipient.
    ///
    /// # Errors
    /// [`KmsError`].
    pub async fn decrypt_data_key(&self, wrapped: &[u8], id: DekId) -> Result<DataKey, KmsError> {
        let attested = self.attested().await?;
        let reply = self
            .client()
            .decrypt()
            .key_id(self.adopted.arn())
            .ciphertext_blob(Blob::new(wrapped))
            .encryption_algorithm(EncryptionAlgorithmSpec::SymmetricDefault)
            .set_encryption_context(Some(encryption_context(id)))
            .recipient(attested.recipient_info())
            .customize()
            .config_override(limits())
            .send()
            .await
            .map_err(|error| log("Decrypt", &error))?;
        let key = open_reply(
            self.adopted.arn(),
            &attested.key,
            reply.key_id(),
            reply.plaintext(),
            reply.ciphertext_for_recipient(),
        )?;
        Ok(DataKey::new(id, wrapped, self.adopted.shared_arn(), key))
    }

    async fn attested(&self) -> Result<Arc<Attested>, KmsError> {
        self.recipient.attested().await.map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "no attestation document for KMS"
            );
            KmsError::Attestation
        })
    }

    fn client(&self) -> Client {
        self.client
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Debug for AttestedKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttestedKms")
            .field("adopted", &self.adopted)
            .finish_non_exhaustive()
    }
}

/// What a data key is bound to inside KMS. CloudTrail shows it in the clear: nothing of a wallet
/// key may stand here.
fn encryption_context(id: DekId) -> HashMap<String, String> {
    [
        ("app", "cloister"),
        ("v", "1"),
        ("purpose", "wallet"),
        // Who makes data keys, not who asks: a signer opens what the generator made.
        ("service", "key-generator"),
        ("dek_id", &id.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Why KMS released no data key. AWS's own words are in the log, never in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KmsError {
    /// KMS refuses this enclave, its role, or the state of the key.
    #[error("KMS refuses this enclave")]
    Denied,
    /// KMS cannot be reached, throttles, or failed.
    #[error("KMS cannot be reached")]
    Unavailable,
    /// KMS does not recognise the wrapped data key under this CMK and context: the row is not ours.
    #[error("KMS does not recognise the wrapped data key")]
    UnknownDataKey,
    /// KMS sent something that an attested call may not get; says what.
    #[error("KMS sent a reply that an attested call may not get: {0}")]
    ReplyRefused(&'static str),
    /// The enclave could not attest itself.
    #[error("the enclave could not attest itself")]
    Attestation,
}

impl From<KmsError> for Rejection {
    fn from(error: KmsError) -> Self {
        match error {
            KmsError::Denied => Self::new(Code::KmsDenied, "KMS refuses this enclave"),
            KmsError::Unavailable => {
                Self::new(Code::KmsUnavailable, "KMS cannot be reached at the moment")
            }
            KmsError::UnknownDataKey => Self::new(
                Code::SealedRowRefused,
                "the sealed row is damaged or belongs to another key",
            ),
            KmsError::ReplyRefused(_) => {
                Self::new(Code::KmsReplyRefused, "the reply of KMS was refused")
            }
            KmsError::Attestation => {
                Self::new(Code::Internal, "the enclave could not attest itself")
            }
        }
    }
}

#[cfg(test)]
mod tests;
