//! A key is born here.

use cloister_protocol::{KeyId, PrivateKey, Verifier};
use cloister_runtime::{Entropy, EntropyError};

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

/// A name for a new key.
pub(crate) async fn key_id(entropy: &Entropy) -> Result<KeyId, EntropyError> {
    Ok(KeyId::from_random_bytes(
        *entropy.random("cloister/key-id/v1").await?,
    ))
}

/// A verifier without a secret: nobody can make a MAC that it accepts.
pub(crate) async fn verifier_of_nobody(entropy: &Entropy) -> Result<Verifier, EntropyError> {
    Ok(Verifier::from_bytes(
        *entropy.random("cloister/verifier-of-nobody/v1").await?,
    ))
}
