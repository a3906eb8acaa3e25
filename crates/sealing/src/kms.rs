//! Data keys from KMS, released to this attested enclave only.

pub(crate) mod call;
mod context;
pub(crate) mod error;
mod reply;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use aws_sdk_kms::Client;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::decrypt::DecryptError;
use aws_sdk_kms::operation::describe_key::DescribeKeyError;
use aws_sdk_kms::operation::generate_data_key::GenerateDataKeyError;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, EncryptionAlgorithmSpec, RecipientInfo};
use cloister_contract::{ErrorChain, Service, events};

use crate::adoption::AdoptedKey;
use crate::data_key::{DataKey, DekId, FreshDataKey, KeyBytes, MAX_WRAPPED_LEN};
use crate::recipient::{Attested, Recipient};
use call::{failed, limits};
pub use context::encryption_context;
pub use error::KmsError;
use reply::{AttestedReply, open};

/// The adopted key in KMS: every call carries the enclave's attestation document, every reply is
/// checked to be about that key and to hold nothing in the clear.
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

    /// Replaces the client with one that has newer credentials, after a DescribeKey with it has
    /// named the adopted key: the credentials of another account cannot.
    ///
    /// # Errors
    /// [`KmsError`] if it has not; the old client stays.
    pub async fn replace_client(&self, client: Client) -> Result<(), KmsError> {
        let described = client
            .describe_key()
            .key_id(self.adopted.arn())
            .customize()
            .config_override(limits::<DescribeKeyError>())
            .send()
            .await
            .map_err(|error| failed("DescribeKey", &error))?;
        if described.key_metadata().and_then(|key| key.arn()) != Some(self.adopted.arn()) {
            return Err(KmsError::ReplyRefused("about another key"));
        }
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    /// Generates a data key: GenerateDataKey with this enclave as the recipient.
    ///
    /// # Errors
    /// [`KmsError`]; a signer gets [`KmsError::Denied`] without a call.
    pub async fn generate_data_key(&self) -> Result<FreshDataKey, KmsError> {
        if self.service != Service::KeyGenerator {
            return Err(KmsError::Denied);
        }
        let id = DekId::random().ok_or(KmsError::Attestation)?;
        let (reply, key) = self
            .attested_call("GenerateDataKey", |client, recipient| {
                client
                    .generate_data_key()
                    .key_id(self.adopted.arn())
                    .key_spec(DataKeySpec::Aes256)
                    .set_encryption_context(Some(encryption_context(id)))
                    .recipient(recipient)
                    .customize()
                    .config_override(limits::<GenerateDataKeyError>())
                    .send()
            })
            .await?;
        let wrapped = reply.ciphertext_blob().map_or(&[][..], AsRef::as_ref);
        if !(1..=MAX_WRAPPED_LEN).contains(&wrapped.len()) {
            return Err(KmsError::ReplyRefused("without a wrapped data key"));
        }
        let key = DataKey::new(id, wrapped, self.adopted.shared_arn(), key);
        Ok(FreshDataKey::new(key))
    }

    /// Decrypts a data key: Decrypt with this enclave as the recipient.
    ///
    /// # Errors
    /// [`KmsError`].
    pub async fn decrypt_data_key(&self, wrapped: &[u8], id: DekId) -> Result<DataKey, KmsError> {
        let (_, key) = self
            .attested_call("Decrypt", |client, recipient| {
                client
                    .decrypt()
                    .key_id(self.adopted.arn())
                    .ciphertext_blob(Blob::new(wrapped))
                    .encryption_algorithm(EncryptionAlgorithmSpec::SymmetricDefault)
                    .set_encryption_context(Some(encryption_context(id)))
                    .recipient(recipient)
                    .customize()
                    .config_override(limits::<DecryptError>())
                    .send()
            })
            .await?;
        Ok(DataKey::new(id, wrapped, self.adopted.shared_arn(), key))
    }

    /// Makes a call with this enclave as the recipient, and decrypts the key in the reply.
    async fn attested_call<Reply, E, Sent>(
        &self,
        operation: &'static str,
        send: impl FnOnce(Client, RecipientInfo) -> Sent,
    ) -> Result<(Reply, KeyBytes), KmsError>
    where
        Reply: AttestedReply,
        E: ProvideErrorMetadata + Error + 'static,
        Sent: Future<Output = Result<Reply, SdkError<E, HttpResponse>>>,
    {
        let attested = self.attested().await?;
        let reply = send(self.client(), attested.recipient_info())
            .await
            .map_err(|error| failed(operation, &error))?;
        let key = open(self.adopted.arn(), &attested.key, &reply)?;
        Ok((reply, key))
    }

    async fn attested(&self) -> Result<Arc<Attested>, KmsError> {
        self.recipient.attested().await.map_err(|error| {
            tracing::error!(
                event = events::KMS_NOT_ATTESTED,
                error = %ErrorChain(&error),
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

#[cfg(test)]
mod tests;
