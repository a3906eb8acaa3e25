//! A table in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cloister_keystore::{Consistency, KeyStore, StoreError};
use cloister_protocol::row::Envelope;
use cloister_protocol::{KeyId, SealedRow};

/// Clones share one table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    rows: Mutex<BTreeMap<KeyId, SealedRow>>,
    /// Not yet seen by eventually consistent reads.
    recent: Mutex<BTreeMap<KeyId, SealedRow>>,
    reads: Mutex<Vec<(KeyId, Consistency)>>,
}

/// The key of a row in the reference deployment's format.
pub(crate) const NOT_MIGRATED: &str = "00000000-0000-4000-8000-000000000001";
/// A key whose partition throttles.
pub(crate) const THROTTLED: &str = "00000000-0000-4000-8000-000000000002";

impl Rows {
    /// A table with a canary.
    pub(crate) fn with_canary() -> Self {
        let rows = Self::default();
        rows.insert(KeyId::CANARY);
        rows
    }

    pub(crate) fn insert(&self, key_id: KeyId) -> SealedRow {
        let row = row(key_id);
        self.0.rows.lock().unwrap().insert(key_id, row.clone());
        row
    }

    pub(crate) fn remove(&self, key_id: KeyId) {
        self.0.rows.lock().unwrap().remove(&key_id);
    }

    pub(crate) fn insert_just_now(&self, key_id: KeyId) {
        self.0.recent.lock().unwrap().insert(key_id, row(key_id));
    }

    /// The reads since the last time this was asked, without those of the canary.
    pub(crate) fn reads(&self) -> Vec<Consistency> {
        let reads = std::mem::take(&mut *self.0.reads.lock().unwrap());
        reads
            .into_iter()
            .filter(|(key_id, _)| *key_id != KeyId::CANARY)
            .map(|(_, consistency)| consistency)
            .collect()
    }
}

fn row(key_id: KeyId) -> SealedRow {
    SealedRow {
        key_id,
        address: Default::default(),
        version: 1,
        created_at: 1_800_000_000,
        sealed: BTreeMap::from([("arn:aws:kms:…".into(), Envelope(vec![1, 2, 3]))]),
    }
}

impl KeyStore for Rows {
    async fn insert(&self, _: &SealedRow) -> Result<(), StoreError> {
        unreachable!("a pod writes no rows")
    }

    async fn replace(&self, _: &SealedRow, _: u64) -> Result<(), StoreError> {
        unreachable!("a pod writes no rows")
    }

    async fn replace_unreadable(&self, _: &SealedRow) -> Result<(), StoreError> {
        unreachable!("a pod writes no rows")
    }

    async fn fetch(
        &self,
        key_id: KeyId,
        consistency: Consistency,
    ) -> Result<Option<SealedRow>, StoreError> {
        self.0.reads.lock().unwrap().push((key_id, consistency));
        match key_id.to_string().as_str() {
            NOT_MIGRATED => return Err(StoreError::NotMigrated),
            THROTTLED => return Err(StoreError::Throttled),
            _ => {}
        }
        let seen = self.0.rows.lock().unwrap().get(&key_id).cloned();
        let recent = || self.0.recent.lock().unwrap().get(&key_id).cloned();
        Ok(seen.or_else(|| {
            if consistency == Consistency::Strong {
                recent()
            } else {
                None
            }
        }))
    }
}
