//! What a place for rows has to be able to do.

use std::future::Future;

use cloister_protocol::{KeyId, SealedRow};

use crate::error::StoreError;

/// A place for rows.
pub trait KeyStore: Send + Sync + 'static {
    /// Writes a row that is not there yet.
    ///
    /// # Errors
    /// [`StoreError::VersionConflict`] when there is one of this id, otherwise as every call.
    fn insert(&self, row: &SealedRow) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Writes a row over the one that has `expected_version`.
    ///
    /// # Errors
    /// [`StoreError::VersionConflict`] when there is none, or of another version, otherwise as
    /// every call.
    fn replace(
        &self,
        row: &SealedRow,
        expected_version: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads a row; `None` when there is none of this id.
    ///
    /// # Errors
    /// [`StoreError::NotMigrated`] for a row of the reference deployment, [`StoreError::Malformed`]
    /// for one that is not ours, otherwise as every call.
    fn fetch(
        &self,
        key_id: KeyId,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Option<SealedRow>, StoreError>> + Send;
}

/// How new a row that is read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Written up to about a second ago. Half the price.
    Eventual,
    /// The latest write that was acknowledged.
    Strong,
}
