//! Rows on their way into the table: sealed under a data key of their own, and believed only once
//! they came back.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::keccak256;
use cloister_keystore::{Consistency, KeyStore, StoreError};
use cloister_protocol::SealedRow;
use cloister_runtime::Entropy;
use cloister_sealing::{AttestedKms, OpenedRow, Opener, RowContents, RowHeader, seal};

use crate::error::GeneratorError;

/// What a key generator works with once a CMK is adopted.
#[derive(Debug)]
pub(crate) struct Vault<Store> {
    pub(crate) entropy: Entropy,
    pub(crate) store: Store,
    kms: Arc<AttestedKms>,
    opener: Opener,
}

impl<Store: KeyStore> Vault<Store> {
    pub(crate) fn new(kms: Arc<AttestedKms>, store: Store, entropy: Entropy) -> Self {
        Self {
            entropy,
            store,
            opener: Opener::new(kms.clone()),
            kms,
        }
    }

    /// Seals a row under a data key that KMS makes for it.
    pub(crate) async fn seal(
        &self,
        header: &RowHeader,
        contents: &RowContents,
    ) -> Result<SealedRow, GeneratorError> {
        let data_key = self
            .kms
            .generate_data_key()
            .await
            .map_err(GeneratorError::DataKey)?;
        let envelope = seal(header, contents, &data_key)?;
        Ok(SealedRow {
            key_id: header.key_id,
            address: header.address,
            version: header.version,
            created_at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            sealed: [(self.kms.adopted().arn().to_owned(), envelope)].into(),
        })
    }

    /// Writes `row`: as a new one, or in the place of version `replaces`. Returns once the row was
    /// read back from the table, was opened with a data key that KMS released for it, and its key
    /// has made a signature that recovers to its address.
    pub(crate) async fn write(
        &self,
        row: &SealedRow,
        replaces: Option<u64>,
    ) -> Result<OpenedRow, GeneratorError> {
        let written = match replaces {
            None => self.store.insert(row).await,
            Some(version) => self.store.replace(row, version).await,
        };
        written.map_err(|error| match error {
            StoreError::VersionConflict => GeneratorError::AnotherRow,
            error => error.into(),
        })?;
        if self
            .store
            .fetch(row.key_id, Consistency::Strong)
            .await?
            .as_ref()
            != Some(row)
        {
            return Err(GeneratorError::AnotherRow);
        }
        let opened = self
            .opener
            .open_through_kms(row)
            .await
            .map_err(GeneratorError::ReadBack)?;
        // Of a hash that is nobody's transaction; the signature is dropped.
        let hash = keccak256([b"cloister/self-check/v1", &row.key_id.as_bytes()[..]].concat());
        opened.sign_prehash(&hash)?;
        Ok(opened)
    }
}
