//! Seals rows under a data key of their own, and acknowledges them only after they were read back
//! from the table and opened.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::keccak256;
use cloister_keystore::{Consistency, KeyStore, StoreError};
use cloister_protocol::SealedRow;
use cloister_runtime::Entropy;
use cloister_sealing::{AttestedKms, OpenedRow, RowContents, RowHeader, Unsealer, seal};

use crate::error::GeneratorError;

/// The store of rows under an adopted CMK.
#[derive(Debug)]
pub(crate) struct VerifiedStore<Store> {
    pub(crate) entropy: Entropy,
    pub(crate) store: Store,
    kms: Arc<AttestedKms>,
    unsealer: Unsealer,
}

impl<Store: KeyStore> VerifiedStore<Store> {
    pub(crate) fn new(kms: Arc<AttestedKms>, store: Store, entropy: Entropy) -> Self {
        Self {
            entropy,
            store,
            unsealer: Unsealer::new(kms.clone()),
            kms,
        }
    }

    /// Seals a row under a new data key of KMS.
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
        let envelope = seal(header, contents, data_key)?;
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

    /// Writes `row` to `target`. Returns after the row was read back from the table, was opened with
    /// a data key that KMS released for it, and its key has made a signature that recovers to its
    /// address.
    pub(crate) async fn write(
        &self,
        row: &SealedRow,
        target: Target,
    ) -> Result<OpenedRow, GeneratorError> {
        let written = match target {
            Target::New => self.store.insert(row).await,
            Target::Version(version) => self.store.replace(row, version).await,
            Target::Unreadable => self.store.replace_unreadable(row).await,
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
            .unsealer
            .open_through_kms(row)
            .await
            .map_err(GeneratorError::ReadBack)?;
        // The hash is not a transaction's; the signature is dropped.
        let hash = keccak256([b"cloister/self-check/v1", &row.key_id.as_bytes()[..]].concat());
        opened.sign_prehash(&hash)?;
        Ok(opened)
    }
}

/// The place of a row in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// There is no row yet.
    New,
    /// Over a row of this version.
    Version(u64),
    /// Over a row that cannot be read.
    Unreadable,
}
