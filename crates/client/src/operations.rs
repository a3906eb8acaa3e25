//! Typed operations, all in the route form.

use std::time::SystemTime;

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use cloister_protocol::request::AuthenticatedRequest;
use cloister_protocol::{CallerSecret, KeyId, PrivateKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::client::Client;
use crate::error::ClientError;

/// A new key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CreatedKey {
    /// The id that signature requests name.
    pub key_id: KeyId,
    /// Its Ethereum address.
    pub address: Address,
}

/// A signed transaction.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SignedTransaction {
    /// The EIP-2718 encoding, 0x-hex: the argument of `eth_sendRawTransaction`.
    pub transaction_signed: String,
    /// The transaction hash.
    pub transaction_hash: B256,
}

/// The health of both services.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Health {
    /// The signer.
    pub signer: ServiceHealth,
    /// The key generator.
    pub key_generator: ServiceHealth,
}

/// The health of one service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServiceHealth {
    /// It can serve requests now.
    pub ready: bool,
    /// Version of the enclave's software, if it answered.
    pub version: Option<String>,
    /// The code that requests would be refused with, if it is not ready.
    pub code: Option<String>,
    /// The message that goes with `code`.
    pub error: Option<String>,
}

impl Client {
    /// Generates a key that signs only with `secret`.
    ///
    /// # Errors
    /// [`ClientError`]. A request that times out may still have created a key.
    pub async fn generate_key(&self, secret: &CallerSecret) -> Result<CreatedKey, ClientError> {
        self.post(
            "/generate_key",
            body(&GenerateKey {
                secret: secret.expose(),
            }),
        )
        .await?
        .success()
    }

    /// Imports a key that signs only with `secret`.
    ///
    /// # Errors
    /// [`ClientError`]. A request that times out may still have imported the key.
    pub async fn set_key(
        &self,
        secret: &CallerSecret,
        eth_key: &PrivateKey,
    ) -> Result<CreatedKey, ClientError> {
        let mut digits = Zeroizing::new([0; 64]);
        const_hex::encode_to_slice(eth_key.expose(), digits.as_mut_slice())
            .expect("64 digits hold 32 bytes");
        let eth_key = std::str::from_utf8(digits.as_slice()).expect("hex digits are ASCII");
        self.post(
            "/set_key",
            body(&SetKey {
                secret: secret.expose(),
                eth_key,
            }),
        )
        .await?
        .success()
    }

    /// Signs the EIP-1559 transaction whose JSON text is `payload`. Name the amount as `valueWei`:
    /// a `value` that is a JSON number or decimal text is **ether**.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sign_transaction(
        &self,
        key_id: KeyId,
        secret: &CallerSecret,
        payload: &str,
    ) -> Result<SignedTransaction, ClientError> {
        let transaction_payload = serde_json::from_str(payload).map_err(ClientError::Payload)?;
        let request = SignTransaction {
            key_id,
            secret: secret.expose(),
            transaction_payload,
        };
        self.post("/sign_transaction", body(&request))
            .await?
            .success()
    }

    /// Like [`Client::sign_transaction`], but does not send `secret`: the request carries a MAC that
    /// is valid for this payload and key, one minute around `now`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sign_transaction_authenticated(
        &self,
        key_id: KeyId,
        secret: &CallerSecret,
        payload: &str,
        now: SystemTime,
    ) -> Result<SignedTransaction, ClientError> {
        self.sign_authenticated(key_id, secret, payload, now).await
    }

    /// Signs the hash of a UserOp without prefix or further hashing; returns 0x-hex of r ‖ s ‖ v.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sign_user_op(
        &self,
        key_id: KeyId,
        secret: &CallerSecret,
        hash: B256,
    ) -> Result<String, ClientError> {
        let payload = user_op(hash);
        let transaction_payload = serde_json::from_str(&payload).map_err(ClientError::Payload)?;
        let request = SignTransaction {
            key_id,
            secret: secret.expose(),
            transaction_payload,
        };
        let signed: Signature = self
            .post("/sign_transaction", body(&request))
            .await?
            .success()?;
        Ok(signed.signature)
    }

    /// Like [`Client::sign_user_op`], but does not send `secret`, as in
    /// [`Client::sign_transaction_authenticated`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sign_user_op_authenticated(
        &self,
        key_id: KeyId,
        secret: &CallerSecret,
        hash: B256,
        now: SystemTime,
    ) -> Result<String, ClientError> {
        let signed: Signature = self
            .sign_authenticated(key_id, secret, &user_op(hash), now)
            .await?;
        Ok(signed.signature)
    }

    /// Asks both services whether they can serve, down to the table and KMS.
    ///
    /// # Errors
    /// [`ClientError`] if the API itself does not answer. A service that is not ready is a
    /// [`Health`].
    pub async fn health(&self) -> Result<Health, ClientError> {
        #[derive(Deserialize)]
        struct Unhealthy {
            health: Health,
        }

        let response = self.get("/health").await?;
        match serde_json::from_slice(&response.body) {
            Ok(Unhealthy { health }) => Ok(health),
            Err(_) => response.success(),
        }
    }

    async fn sign_authenticated<T: DeserializeOwned>(
        &self,
        key_id: KeyId,
        secret: &CallerSecret,
        payload: &str,
        now: SystemTime,
    ) -> Result<T, ClientError> {
        let timestamp = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let authenticated = AuthenticatedRequest::new(key_id, secret, timestamp, payload);
        self.post(
            "/sign_transaction",
            body(&Authenticated {
                authenticated: &authenticated,
            }),
        )
        .await?
        .success()
    }
}

fn user_op(hash: B256) -> String {
    format!(r#"{{"userOpHash":"{hash}"}}"#)
}

#[derive(Deserialize)]
struct Signature {
    signature: String,
}

/// Encodes a JSON body, zeroized after it was sent.
fn body(request: &impl Serialize) -> Bytes {
    let json =
        serde_json::to_vec(request).expect("structs of strings and numbers have a JSON form");
    Bytes::from_owner(Zeroizing::new(json))
}

#[derive(Serialize)]
struct GenerateKey<'a> {
    secret: &'a str,
}

#[derive(Serialize)]
struct SetKey<'a> {
    secret: &'a str,
    eth_key: &'a str,
}

#[derive(Serialize)]
struct SignTransaction<'a> {
    key_id: KeyId,
    secret: &'a str,
    transaction_payload: &'a RawValue,
}

#[derive(Serialize)]
struct Authenticated<'a> {
    authenticated: &'a AuthenticatedRequest,
}
