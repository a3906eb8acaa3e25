//! The RSA key that KMS encrypts to, and its attestation document.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyEncryptionMechanism, RecipientInfo};
use cloister_contract::{ErrorChain, events};
use cloister_nsm::{Claims, Nsm, NsmError};
use tokio::sync::Mutex;
use tokio::task::{JoinError, spawn_blocking};

use crate::cms::{CmsError, RecipientKey};
use crate::timestamp::Timestamp;

/// User data of every attestation document for KMS, which distinguishes it from other documents.
pub const KMS_DOCUMENT_TAG: &[u8] = b"kms";

/// KMS refuses documents older than five minutes; ours are never older than this.
const MAX_DOCUMENT_AGE: Duration = Duration::from_secs(4 * 60);
/// Longest life of an RSA key.
const MAX_KEY_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Between two background checks for renewal.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(15);

/// An RSA-2048 key of this boot with a current attestation document. Both are renewed in the
/// background, ahead of time; a request waits for the NSM only if the background could not keep up.
pub struct Recipient {
    nsm: Arc<dyn Nsm>,
    ages: Ages,
    /// `None` until the first key of this boot is made.
    current: RwLock<Option<Arc<Attested>>>,
    /// Held while renewing, so that requests which find the document too old ask the NSM once.
    renewing: Mutex<()>,
}

/// A key and the document that vouches for it. Whoever sent the document decrypts with this key,
/// whatever came after it.
pub(crate) struct Attested {
    pub(crate) key: Arc<RecipientKey>,
    key_made: Timestamp,
    document: Vec<u8>,
    attested: Timestamp,
}

/// When a document and a key must not be used any more, and when the background replaces them.
#[derive(Clone, Copy)]
struct Ages {
    max_document: Duration,
    max_key: Duration,
    interval: Duration,
}

impl Recipient {
    /// Begins to make the first key and document, and keeps them current until the last reference
    /// is dropped. An enclave starts meanwhile: on a slow machine the key takes most of a second.
    /// Has to be called inside a Tokio runtime.
    pub fn start(nsm: Arc<dyn Nsm>) -> Arc<Self> {
        let ages = Ages {
            max_document: MAX_DOCUMENT_AGE,
            max_key: MAX_KEY_AGE,
            interval: MAINTENANCE_INTERVAL,
        };
        Self::start_with(nsm, ages)
    }

    fn start_with(nsm: Arc<dyn Nsm>, ages: Ages) -> Arc<Self> {
        let recipient = Arc::new(Self {
            nsm,
            ages,
            current: RwLock::new(None),
            renewing: Mutex::new(()),
        });
        tokio::spawn(maintain(Arc::downgrade(&recipient), ages.interval));
        recipient
    }

    /// A key with a document that KMS accepts now.
    pub(crate) async fn attested(&self) -> Result<Arc<Attested>, RecipientError> {
        if let Some(current) = self.current()
            && current.is_within(self.ages.max_document, self.ages.max_key)
        {
            return Ok(current);
        }
        self.renew(self.ages.max_document, self.ages.max_key).await
    }

    /// Replaces what is older than the given ages.
    async fn renew(
        &self,
        document: Duration,
        key: Duration,
    ) -> Result<Arc<Attested>, RecipientError> {
        let _renewing = self.renewing.lock().await;
        let renewed = match self.current() {
            Some(current) if current.is_within(document, key) => return Ok(current),
            Some(current) if current.key_made.age() <= key => {
                Attested::attest(&self.nsm, current.key.clone(), current.key_made).await?
            }
            _ => Attested::with_new_key(&self.nsm).await?,
        };
        let renewed = Arc::new(renewed);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(renewed.clone());
        Ok(renewed)
    }

    fn current(&self) -> Option<Arc<Attested>> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recipient(..)")
    }
}

/// Makes the first key, then renews at three quarters of the permitted age, until the recipient is
/// gone.
async fn maintain(recipient: Weak<Recipient>, interval: Duration) {
    loop {
        let Some(recipient) = recipient.upgrade() else {
            return;
        };
        let Ages {
            max_document,
            max_key,
            ..
        } = recipient.ages;
        if let Err(error) = recipient.renew(max_document * 3 / 4, max_key * 3 / 4).await {
            // Not fatal yet: the next round or the next request tries again.
            tracing::warn!(
                event = events::KMS_NOT_ATTESTED,
                error = %ErrorChain(&error),
                "failed to renew the attestation document for KMS"
            );
        }
        drop(recipient);
        tokio::time::sleep(interval).await;
    }
}

impl Attested {
    async fn with_new_key(nsm: &Arc<dyn Nsm>) -> Result<Self, RecipientError> {
        let made = Timestamp::now();
        // aws-lc gathers entropy for tens of milliseconds before its first random byte: here, not
        // on the path of a request.
        let key = spawn_blocking(RecipientKey::generate)
            .await?
            .map_err(RecipientError::Key)?;
        Self::attest(nsm, Arc::new(key), made).await
    }

    async fn attest(
        nsm: &Arc<dyn Nsm>,
        key: Arc<RecipientKey>,
        key_made: Timestamp,
    ) -> Result<Self, RecipientError> {
        let claims = Claims {
            user_data: Some(KMS_DOCUMENT_TAG.to_vec()),
            nonce: None,
            public_key: Some(key.public_key_der().to_vec()),
        };
        // Before the call: the document's own timestamp lies between here and its return.
        let attested = Timestamp::now();
        let nsm = nsm.clone();
        let document = spawn_blocking(move || nsm.attest(&claims))
            .await?
            .map_err(RecipientError::Nsm)?;
        Ok(Self {
            key,
            key_made,
            document,
            attested,
        })
    }

    fn is_within(&self, document: Duration, key: Duration) -> bool {
        self.attested.age() <= document && self.key_made.age() <= key
    }

    /// The recipient of a KMS request.
    pub(crate) fn recipient_info(&self) -> RecipientInfo {
        RecipientInfo::builder()
            .key_encryption_algorithm(KeyEncryptionMechanism::RsaesOaepSha256)
            .attestation_document(Blob::new(self.document.clone()))
            .build()
    }
}

/// A key that was not attested.
#[derive(Debug, thiserror::Error)]
pub enum RecipientError {
    /// Failed to generate the RSA key.
    #[error("failed to generate the recipient key")]
    Key(#[source] CmsError),
    /// The NSM refused or failed.
    #[error("the NSM did not attest the recipient key")]
    Nsm(#[source] NsmError),
    /// The runtime is shutting down.
    #[error("the blocking task was cancelled")]
    CutOff(#[from] JoinError),
}

#[cfg(test)]
mod tests;
