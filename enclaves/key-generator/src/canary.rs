//! The canary: a row that a signer opens before it serves, so that it finds out before its first
//! caller whether KMS lets it open what the current generator seals. Its key can sign nothing and
//! nobody has its secret.

use cloister_keystore::{Consistency, KeyStore};
use cloister_protocol::KeyId;
use cloister_sealing::{Capabilities, OpenedRow, Origin, RowContents, RowHeader};
use cloister_signing::address;

use crate::birth;
use crate::error::GeneratorError;
use crate::vault::Vault;

/// Writes a new canary over the old one and opens it through KMS. When another generator writes at
/// the same time, one of the two goes first and the other goes over it: both end with a canary of
/// their own that was in the table.
pub(crate) async fn write<Store: KeyStore>(
    vault: &Vault<Store>,
) -> Result<OpenedRow, GeneratorError> {
    for _ in 0..MAX_ATTEMPTS {
        let replaces = vault
            .store
            .fetch(KeyId::CANARY, Consistency::Strong)
            .await?
            .map(|row| row.version);
        let key = birth::private_key(&vault.entropy).await?;
        let header = RowHeader {
            key_id: KeyId::CANARY,
            address: address(&key),
            origin: Origin::Generated,
            // After 2^64 boots the conditional write fails, which is the right end of it.
            version: replaces.unwrap_or(0).saturating_add(1),
        };
        let verifier = birth::verifier_of_nobody(&vault.entropy).await?;
        let contents = RowContents {
            key,
            verifier,
            capabilities: Capabilities::NONE,
        };
        match vault
            .write(&vault.seal(&header, &contents).await?, replaces)
            .await
        {
            Err(GeneratorError::AnotherRow) => {
                tracing::info!("another generator writes the canary; once more")
            }
            outcome => return outcome,
        }
    }
    Err(GeneratorError::Contended)
}

/// Two generators that start at the same moment need two.
const MAX_ATTEMPTS: usize = 8;
