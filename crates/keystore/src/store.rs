//! The interface of a store of rows.

use std::future::Future;

use cloister_protocol::{KeyId, SealedRow};

use crate::error::StoreError;

/// A store of rows.
pub trait KeyStore: Send + Sync + 'static {
    /// Writes a new row.
    ///
    /// # Errors
    /// [`StoreError::VersionConflict`] if there is one of this id, otherwise as every call.
    fn insert(&self, row: &SealedRow) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Writes a row over the one that has `expected_version`.
    ///
    /// # Errors
    /// [`StoreError::VersionConflict`] if there is none, or of another version, otherwise as every
    /// call.
    fn replace(
        &self,
        row: &SealedRow,
        expected_version: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Writes a row over one that [`KeyStore::fetch`] refuses, unless that changes meanwhile.
    ///
    /// # Errors
    /// [`StoreError::VersionConflict`] if there is none, if it is readable, or if it was changed
    /// meanwhile, otherwise as every call.
    fn replace_unreadable(
        &self,
        row: &SealedRow,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads a row; `None` if there is none of this id.
    ///
    /// # Errors
    /// [`StoreError::NotMigrated`] for a row of the reference deployment, [`StoreError::Malformed`]
    /// for another unreadable one, otherwise as every call.
    fn fetch(
        &self,
        key_id: KeyId,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Option<SealedRow>, StoreError>> + Send;
}

/// The consistency of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Written up to about a second ago. Half the price.
    Eventual,
    /// The latest write that was acknowledged.
    Strong,
}
