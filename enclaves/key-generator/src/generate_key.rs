//! The operation `generate_key`: a wallet key from the enclave's own entropy.

use cloister_keystore::KeyStore;
use cloister_protocol::CallerSecret;
use cloister_protocol::message::KeyCreated;
use cloister_sealing::Origin;

use crate::error::GeneratorError;
use crate::verified_store::VerifiedStore;
use crate::wallet_key::{create, private_key};

/// Generates a key for the holder of `secret`.
pub(crate) async fn generate_key<Store: KeyStore>(
    store: &VerifiedStore<Store>,
    secret: &CallerSecret,
) -> Result<KeyCreated, GeneratorError> {
    let key = private_key(&store.entropy).await?;
    create(store, secret, key, Origin::Generated).await
}
