//! `generate_key` and `set_key`: from the caller's body to a key that can be used.

use cloister_keystore::KeyStore;
use cloister_protocol::limits::MAX_BODY_LEN;
use cloister_protocol::message::KeyCreated;
use cloister_protocol::{CallerSecret, Code, PrivateKey, Rejection, Verifier};
use cloister_sealing::{Capability, Origin, RowContents, RowHeader};
use cloister_signing::address;

use crate::birth;
use crate::error::GeneratorError;
use crate::vault::Vault;

/// Makes a row for a new key and acknowledges it: from then on it can be opened by whoever KMS
/// lets.
///
/// An error does not say that there is no row: one that could not be proved to work stays, under a
/// name nobody was told.
pub(crate) async fn create<Store: KeyStore>(
    vault: &Vault<Store>,
    secret: &CallerSecret,
    import: Option<PrivateKey>,
) -> Result<KeyCreated, GeneratorError> {
    let key_id = birth::key_id(&vault.entropy).await?;
    cloister_runtime::record_key(key_id);
    let (key, origin) = match import {
        Some(key) => (key, Origin::Imported),
        None => (birth::private_key(&vault.entropy).await?, Origin::Generated),
    };
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
    let row = vault.seal(&header, &contents).await?;
    // What comes back from the table is what counts from here on.
    drop(contents);
    let opened = vault.write(&row, None).await?;
    Ok(KeyCreated {
        key_id: opened.key_id(),
        address: opened.address(),
    })
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
