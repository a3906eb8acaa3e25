//! The canary: a row that a signer opens before it serves, so that a CMK which refuses the signer is
//! found before the first caller's request. Its key may sign nothing, and no secret matches its
//! verifier.

use cloister_contract::{ErrorChain, events};
use cloister_keystore::{Consistency, KeyStore, StoreError};
use cloister_protocol::{KeyId, Verifier};
use cloister_runtime::{Entropy, EntropyError};
use cloister_sealing::{Capabilities, OpenedRow, Origin, RowContents, RowHeader};
use cloister_signing::address;

use crate::error::GeneratorError;
use crate::verified_store::{Target, VerifiedStore};
use crate::wallet_key::private_key;

/// Writes a new canary over the old one and opens it through KMS. If another generator writes at
/// the same time, the second overwrites the first: both end with a canary of their own that was in
/// the table.
pub(crate) async fn write<Store: KeyStore>(
    store: &VerifiedStore<Store>,
) -> Result<OpenedRow, GeneratorError> {
    for _ in 0..MAX_ATTEMPTS {
        let target = target(&store.store).await?;
        let key = private_key(&store.entropy).await?;
        let header = RowHeader {
            key_id: KeyId::CANARY,
            address: address(&key),
            origin: Origin::Generated,
            version: match target {
                // A writer of the table can set the highest version; the canary then keeps it.
                Target::Version(replaced) => replaced.saturating_add(1),
                Target::New | Target::Unreadable => 1,
            },
        };
        let contents = RowContents {
            key,
            verifier: unusable_verifier(&store.entropy).await?,
            capabilities: Capabilities::NONE,
        };
        let row = store.seal(&header, &contents).await?;
        match store.write(&row, target).await {
            Err(GeneratorError::AnotherRow) => {
                tracing::info!("another generator writes the canary; trying again");
            }
            outcome => return outcome,
        }
    }
    Err(GeneratorError::Contended)
}

/// An unreadable row in the place of the canary must not keep a generator from becoming ready: it
/// is replaced like an old canary.
async fn target<Store: KeyStore>(store: &Store) -> Result<Target, StoreError> {
    match store.fetch(KeyId::CANARY, Consistency::Strong).await {
        Ok(None) => Ok(Target::New),
        Ok(Some(row)) => Ok(Target::Version(row.version)),
        Err(error @ (StoreError::Malformed(_) | StoreError::NotMigrated)) => {
            tracing::warn!(
                event = events::CANARY_REPLACED,
                error = %ErrorChain(&error),
                "replacing an unreadable canary"
            );
            Ok(Target::Unreadable)
        }
        Err(error) => Err(error),
    }
}

/// A verifier that accepts no MAC: its secret is unknown.
async fn unusable_verifier(entropy: &Entropy) -> Result<Verifier, EntropyError> {
    Ok(Verifier::from_bytes(
        *entropy.random("cloister/verifier-of-nobody/v1").await?,
    ))
}

/// Attempts before giving up; two generators starting together need two.
const MAX_ATTEMPTS: usize = 8;
