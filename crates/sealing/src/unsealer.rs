//! Opens rows with as few calls to KMS as possible: recent data keys are cached, and a burst on one
//! row costs one call.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use cloister_protocol::SealedRow;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use lru::LruCache;

use crate::data_key::{DataKey, DekId};
use crate::kms::{AttestedKms, KmsError};
use crate::row::{self, OpenError, OpenedRow, Parts};
use crate::timestamp::Timestamp;

/// A data key is wiped at this age at the latest, however often it is used.
const MAX_AGE: Duration = Duration::from_secs(15 * 60);
/// Of cached data keys; about 1 KiB each.
const MAX_ENTRIES: NonZeroUsize = NonZeroUsize::new(16 * 1024).expect("not zero");
/// Sweeps per maximum age: keys are removed in the last of these periods.
const SWEEPS_PER_AGE: u32 = 30;

/// Opens rows of the adopted CMK.
pub struct Unsealer {
    kms: Arc<AttestedKms>,
    cache: Arc<Cache>,
}

impl Unsealer {
    /// An unsealer without any data key yet. Wipes the ones it gets in the background, until it is
    /// dropped; has to be called inside a Tokio runtime.
    pub fn new(kms: Arc<AttestedKms>) -> Self {
        Self::with_max_age(kms, MAX_AGE)
    }

    fn with_max_age(kms: Arc<AttestedKms>, max_age: Duration) -> Self {
        let sweep = max_age / SWEEPS_PER_AGE;
        let cache = Arc::new(Cache {
            entries: Mutex::new(LruCache::new(MAX_ENTRIES)),
            serve_for: max_age - sweep,
        });
        tokio::spawn(sweep_out(Arc::downgrade(&cache), sweep));
        Self { kms, cache }
    }

    /// Opens a row, with a cached data key if there is one.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, row: &SealedRow) -> Result<OpenedRow, OpenError> {
        let parts = row::parts(row, self.kms.adopted().arn())?;
        let data_key = self.data_key(&parts).await.map_err(OpenError::Kms)?;
        row::open_parts(row, &parts, &data_key)
    }

    /// Opens a row with a data key that KMS releases now, and forgets it: proves that the row can
    /// be opened later.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_through_kms(&self, row: &SealedRow) -> Result<OpenedRow, OpenError> {
        let parts = row::parts(row, self.kms.adopted().arn())?;
        let data_key = self
            .kms
            .decrypt_data_key(parts.wrapped, parts.dek_id)
            .await
            .map_err(OpenError::Kms)?;
        row::open_parts(row, &parts, &data_key)
    }

    async fn data_key(&self, parts: &Parts<'_>) -> Result<Arc<DataKey>, KmsError> {
        let name = EntryName::of(parts.dek_id, parts.wrapped);
        let in_flight = self.cache.in_flight(name, || self.start(parts));
        let result = in_flight.clone().await;
        if result.is_err() {
            self.cache.forget(name, &in_flight);
        }
        result
    }

    /// Starts a Decrypt that continues if its request is given up: others may wait for it.
    fn start(&self, parts: &Parts<'_>) -> InFlight {
        let kms = self.kms.clone();
        let (wrapped, id) = (parts.wrapped.to_vec(), parts.dek_id);
        tokio::spawn(async move { kms.decrypt_data_key(&wrapped, id).await.map(Arc::new) })
            .map(|joined| joined.unwrap_or(Err(KmsError::Unavailable)))
            .boxed()
            .shared()
    }
}

impl fmt::Debug for Unsealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsealer")
            .field("kms", &self.kms)
            .finish_non_exhaustive()
    }
}

/// A data key that was requested or has arrived. Dropping the last clone wipes it.
type InFlight = Shared<BoxFuture<'static, Result<Arc<DataKey>, KmsError>>>;

struct Cache {
    entries: Mutex<LruCache<EntryName, Entry>>,
    serve_for: Duration,
}

struct Entry {
    in_flight: InFlight,
    started: Timestamp,
}

/// SHA-256 of the data key's name and its wrapped form, which decide the key that a Decrypt returns.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct EntryName([u8; 32]);

impl EntryName {
    fn of(id: DekId, wrapped: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(id.as_bytes());
        context.update(wrapped);
        Self(
            context
                .finish()
                .as_ref()
                .try_into()
                .expect("SHA-256 has 32 bytes"),
        )
    }
}

impl Cache {
    /// The request of this name, or a new one if there is none or it is too old.
    fn in_flight(&self, name: EntryName, start: impl FnOnce() -> InFlight) -> InFlight {
        let mut entries = self.lock();
        if let Some(entry) = entries.get(&name)
            && entry.started.age() < self.serve_for
        {
            return entry.in_flight.clone();
        }
        let in_flight = start();
        entries.put(
            name,
            Entry {
                in_flight: in_flight.clone(),
                started: Timestamp::now(),
            },
        );
        in_flight
    }

    /// Removes a failed request, unless another one has taken its place.
    fn forget(&self, name: EntryName, in_flight: &InFlight) {
        let mut entries = self.lock();
        if entries
            .peek(&name)
            .is_some_and(|entry| entry.in_flight.ptr_eq(in_flight))
        {
            entries.pop(&name);
        }
    }

    fn sweep(&self) {
        let mut entries = self.lock();
        let old = entries
            .iter()
            .filter(|(_, entry)| entry.started.age() >= self.serve_for);
        let old = old.map(|(name, _)| *name).collect::<Vec<_>>();
        for name in old {
            entries.pop(&name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<EntryName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep_out(cache: Weak<Cache>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(cache) = cache.upgrade() else { return };
        cache.sweep();
    }
}

#[cfg(test)]
mod tests;
