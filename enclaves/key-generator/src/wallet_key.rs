//! Creates the row of a wallet key, whatever the key's origin.

use cloister_keystore::KeyStore;
use cloister_protocol::limits::MAX_BODY_LEN;
use cloister_protocol::message::KeyCreated;
use cloister_protocol::{CallerSecret, Code, KeyId, PrivateKey, Rejection, Verifier};
use cloister_runtime::{Entropy, EntropyError};
use cloister_sealing::{Capability, Origin, RowContents, RowHeader};
use cloister_signing::address;

use crate::error::GeneratorError;
use crate::verified_store::{Target, VerifiedStore};

/// Writes a row for a key and returns once the row was proved to work.
///
/// After an error there may be a row: one that failed its proof stays, under an id that was never
/// returned.
pub(crate) async fn create<Store: KeyStore>(
    store: &VerifiedStore<Store>,
    secret: &CallerSecret,
    key: PrivateKey,
    origin: Origin,
) -> Result<KeyCreated, GeneratorError> {
    let key_id = key_id(&store.entropy).await?;
    cloister_runtime::record_key(key_id);
    let header = RowHeader {
        key_id,
        address: address(&key),
        origin,
        version: 1,
    };
    let contents = RowContents {
        key,
        verifier: Verifier::derive(secret, key_id),
        capabilities: [Capability::Transaction, Capability::UserOpHash]
            .into_iter()
            .collect(),
    };
    let row = store.seal(&header, &contents).await?;
    // From here on only what the table returns counts.
    drop(contents);
    let opened = store.write(&row, Target::New).await?;
    Ok(KeyCreated {
        key_id: opened.key_id(),
        address: opened.address(),
    })
}

/// A new private key: 32 bytes at a time until they are a number in [1, n−1]. Rejection, unlike
/// reduction modulo n, prefers no key to another; it happens once in 2^128 times.
pub(crate) async fn private_key(entropy: &Entropy) -> Result<PrivateKey, EntropyError> {
    loop {
        let mut bytes = entropy.random("cloister/private-key/v1").await?;
        if let Ok(key) = PrivateKey::take(&mut bytes) {
            return Ok(key);
        }
    }
}

async fn key_id(entropy: &Entropy) -> Result<KeyId, EntropyError> {
    Ok(KeyId::from_random_bytes(
        *entropy.random("cloister/key-id/v1").await?,
    ))
}

/// Refuses a body that is too large before it is parsed.
pub(crate) fn within_size(body: &[u8]) -> Result<&[u8], Rejection> {
    if body.len() > MAX_BODY_LEN {
        Err(Rejection::new(
            Code::BodyTooLarge,
            format!("the body has more than {MAX_BODY_LEN} bytes"),
        ))
    } else {
        Ok(body)
    }
}
