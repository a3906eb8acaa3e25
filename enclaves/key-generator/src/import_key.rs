//! The operation `set_key`: imports a wallet key that the caller sends.

use cloister_keystore::KeyStore;
use cloister_protocol::message::KeyCreated;
use cloister_protocol::{CallerSecret, PrivateKey};
use cloister_sealing::Origin;

use crate::error::GeneratorError;
use crate::verified_store::VerifiedStore;
use crate::wallet_key::create;

/// Imports a key for the holder of `secret`.
pub(crate) async fn import_key<Store: KeyStore>(
    store: &VerifiedStore<Store>,
    secret: &CallerSecret,
    key: PrivateKey,
) -> Result<KeyCreated, GeneratorError> {
    create(store, secret, key, Origin::Imported).await
}
