//! A table in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cloister_keystore::{Consistency, KeyStore, StoreError};
use cloister_protocol::{KeyId, SealedRow};

/// Clones share the rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<KeyId, SealedRow>,
    /// The row of this id cannot be read.
    unreadable: Option<KeyId>,
    /// Rows are stored otherwise than they were written.
    tampering: bool,
    unavailable: bool,
}

impl Rows {
    pub(crate) fn row(&self, key_id: KeyId) -> Option<SealedRow> {
        self.0.lock().unwrap().rows.get(&key_id).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().rows.len()
    }

    pub(crate) fn set_unreadable(&self, key_id: KeyId) {
        self.0.lock().unwrap().unreadable = Some(key_id);
    }

    pub(crate) fn set_tampering(&self, tampering: bool) {
        self.0.lock().unwrap().tampering = tampering;
    }

    pub(crate) fn set_unavailable(&self, unavailable: bool) {
        self.0.lock().unwrap().unavailable = unavailable;
    }

    fn write(&self, row: &SealedRow, expected: Option<u64>) -> Result<(), StoreError> {
        let mut table = self.0.lock().unwrap();
        if table.unavailable {
            return Err(StoreError::Unavailable);
        }
        if table.rows.get(&row.key_id).map(|row| row.version) != expected {
            return Err(StoreError::VersionConflict);
        }
        let mut row = row.clone();
        if table.tampering {
            row.created_at += 1;
        }
        table.rows.insert(row.key_id, row);
        Ok(())
    }
}

impl KeyStore for Rows {
    async fn insert(&self, row: &SealedRow) -> Result<(), StoreError> {
        self.write(row, None)
    }

    async fn replace(&self, row: &SealedRow, expected_version: u64) -> Result<(), StoreError> {
        self.write(row, Some(expected_version))
    }

    async fn replace_unreadable(&self, row: &SealedRow) -> Result<(), StoreError> {
        let mut table = self.0.lock().unwrap();
        if table.unreadable != Some(row.key_id) {
            return Err(StoreError::VersionConflict);
        }
        table.unreadable = None;
        table.rows.insert(row.key_id, row.clone());
        Ok(())
    }

    async fn fetch(
        &self,
        key_id: KeyId,
        consistency: Consistency,
    ) -> Result<Option<SealedRow>, StoreError> {
        assert_eq!(
            consistency,
            Consistency::Strong,
            "a row that decides is read consistently"
        );
        if self.0.lock().unwrap().unreadable == Some(key_id) {
            return Err(StoreError::Malformed("sealed"));
        }
        Ok(self.row(key_id))
    }
}
