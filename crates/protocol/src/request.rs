//! The bodies a caller sends, read by the same code in the front door (to refuse early) and in the
//! enclave (to decide).

use serde::Serialize;

use crate::authentication::{Route, Verifier};
use crate::json::Object;
use crate::payload::SigningPayload;
use crate::{CallerSecret, KeyId, PrivateKey, Rejection};

/// `generate_key`: `{"secret"}`.
#[derive(Debug)]
pub struct GenerateKey {
    /// The secret that will be asked for with every signature.
    pub secret: CallerSecret,
}

impl GenerateKey {
    /// Reads the body.
    ///
    /// # Errors
    /// A rejection of the caller's kind, naming the member.
    pub fn parse(body: &[u8]) -> Result<Self, Rejection> {
        let mut object = Object::parse(body)?;
        let secret = secret(&mut object)?;
        object.finish()?;
        Ok(Self { secret })
    }
}

/// `set_key`: `{"secret", "eth_key"}`.
#[derive(Debug)]
pub struct SetKey {
    /// The secret that will be asked for with every signature.
    pub secret: CallerSecret,
    /// The key to import.
    pub eth_key: PrivateKey,
}

impl SetKey {
    /// Reads the body.
    ///
    /// # Errors
    /// A rejection of the caller's kind, naming the member.
    pub fn parse(body: &[u8]) -> Result<Self, Rejection> {
        let mut object = Object::parse(body)?;
        let secret = secret(&mut object)?;
        let eth_key = object.require("eth_key")?;
        object.finish()?;
        let text = eth_key.string()?;
        let eth_key = PrivateKey::from_hex(&text).map_err(|_| {
            eth_key.invalid("must be 32 bytes of hex, a number from 1 to n-1 of secp256k1")
        })?;
        Ok(Self { secret, eth_key })
    }
}

/// `POST /key` of the reference form: with `eth_key` it imports that key, without it generates one.
#[derive(Debug)]
pub enum CreateKey {
    /// No `eth_key`.
    Generate(GenerateKey),
    /// With `eth_key`.
    Import(SetKey),
}

impl CreateKey {
    /// Reads the body.
    ///
    /// # Errors
    /// A rejection of the caller's kind, naming the member.
    pub fn parse(body: &[u8]) -> Result<Self, Rejection> {
        if Object::parse(body)?.contains("eth_key") {
            SetKey::parse(body).map(Self::Import)
        } else {
            GenerateKey::parse(body).map(Self::Generate)
        }
    }
}

/// `sign_transaction` as callers send it: `{"key_id", "secret", "transaction_payload"}` or
/// `{"authenticated": {…}}`.
#[derive(Debug)]
pub enum SignTransaction<'a> {
    /// With the secret itself.
    Plain {
        /// The key, unless the path names it.
        key_id: Option<KeyId>,
        /// The key's secret.
        secret: CallerSecret,
        /// The exact text of the payload.
        payload: &'a str,
    },
    /// Already authenticated by the caller.
    Authenticated(AuthenticatedRequest),
}

impl<'a> SignTransaction<'a> {
    /// Reads the body, its payload included.
    ///
    /// # Errors
    /// A rejection of the caller's kind, naming the member.
    pub fn parse(body: &'a [u8]) -> Result<Self, Rejection> {
        let mut object = Object::parse(body)?;
        if let Some(authenticated) = object.take("authenticated")? {
            object.finish()?;
            return AuthenticatedRequest::read(authenticated.object()?).map(Self::Authenticated);
        }
        let key_id = object
            .take("key_id")?
            .map(|value| key_id(&value))
            .transpose()?;
        let secret = secret(&mut object)?;
        let payload = object.require("transaction_payload")?;
        object.finish()?;
        payload.object()?;
        SigningPayload::parse(payload.text().as_bytes())?;
        Ok(Self::Plain {
            key_id,
            secret,
            payload: payload.text(),
        })
    }

    /// The key the body names, if it does.
    pub fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::Plain { key_id, .. } => *key_id,
            Self::Authenticated(request) => Some(request.key_id),
        }
    }
}

/// A request whose exact payload bytes are authenticated: what the front door makes of a plain one,
/// and what an enclave takes. As JSON: `{"payload": "…", "key_id", "timestamp", "mac"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthenticatedRequest {
    /// The text of the payload; its bytes are what is authenticated.
    pub payload: String,
    /// The key to sign with.
    pub key_id: KeyId,
    /// When the request was made, in seconds since the Unix epoch.
    pub timestamp: u64,
    /// [`Verifier::mac`] of the request.
    #[serde(serialize_with = "const_hex::serde::no_prefix::serialize")]
    pub mac: [u8; 32],
}

impl AuthenticatedRequest {
    /// Authenticates `payload` with the secret of the key.
    pub fn new(key_id: KeyId, secret: &CallerSecret, timestamp: u64, payload: &str) -> Self {
        let mac = Verifier::derive(secret, key_id).mac(
            Route::SignTransaction,
            key_id,
            timestamp,
            payload.as_bytes(),
        );
        Self {
            payload: payload.to_owned(),
            key_id,
            timestamp,
            mac,
        }
    }

    /// Reads the JSON form, the payload included.
    ///
    /// # Errors
    /// A rejection of the caller's kind, naming the member.
    pub fn parse(body: &[u8]) -> Result<Self, Rejection> {
        Self::read(Object::parse(body)?)
    }

    fn read(mut object: Object<'_>) -> Result<Self, Rejection> {
        let key_id = key_id(&object.require("key_id")?)?;
        let timestamp = object.require("timestamp")?;
        let mac = object.require("mac")?;
        let payload = object.require("payload")?;
        object.finish()?;
        let mut mac_bytes = [0; 32];
        const_hex::decode_to_slice(mac.string()?.as_str(), &mut mac_bytes)
            .map_err(|_| mac.invalid("must be 32 bytes of hex"))?;
        let request = Self {
            payload: std::mem::take(&mut *payload.string()?),
            key_id,
            timestamp: timestamp.text().parse().map_err(|_| {
                timestamp.invalid("must be seconds since the Unix epoch, as a JSON integer")
            })?,
            mac: mac_bytes,
        };
        request.signing_payload()?;
        Ok(request)
    }

    /// What is to be signed.
    ///
    /// # Errors
    /// A rejection of the caller's kind, naming the member.
    pub fn signing_payload(&self) -> Result<SigningPayload, Rejection> {
        SigningPayload::parse(self.payload.as_bytes())
    }

    /// The JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers only")
    }
}

fn secret(object: &mut Object<'_>) -> Result<CallerSecret, Rejection> {
    let value = object.require("secret")?;
    CallerSecret::new(value.string()?).map_err(|error| value.invalid(error))
}

fn key_id(value: &crate::json::Value<'_>) -> Result<KeyId, Rejection> {
    value
        .string()?
        .parse()
        .map_err(|error: crate::key_id::InvalidKeyId| value.invalid(format_args!("is {error}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Code;

    const SECRET: &str = "9779d2b8f0bc495b1691ce1a2baf8004";
    const KEY_ID: &str = "7e99e372-0eba-4001-8002-35e6a1478070";
    const PAYLOAD: &str =
        r#"{ "userOpHash": "f3df4bcb3b24437160ba86a88f41d522662ed994dddd11ac477cfc16e9a71869" }"#;

    #[test]
    fn create_key_imports_when_a_key_is_given() {
        let key = "01".repeat(32);
        let import =
            CreateKey::parse(format!(r#"{{"eth_key":"{key}","secret":"{SECRET}"}}"#).as_bytes())
                .unwrap();
        assert!(
            matches!(import, CreateKey::Import(SetKey { eth_key, .. }) if eth_key.expose() == &[1; 32])
        );
        let generate = CreateKey::parse(format!(r#"{{"secret":"{SECRET}"}}"#).as_bytes()).unwrap();
        assert!(matches!(generate, CreateKey::Generate(_)));
    }

    #[test]
    fn wrong_keys_are_refused_by_name() {
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        for key in [
            "",
            "00",
            &"00".repeat(32),
            order,
            &"ff".repeat(32),
            &"01".repeat(31),
            &"01".repeat(33),
        ] {
            let body = format!(r#"{{"eth_key":"{key}","secret":"{SECRET}"}}"#);
            let rejection = SetKey::parse(body.as_bytes()).unwrap_err();
            assert_eq!(
                (rejection.code, rejection.field.as_deref()),
                (Code::InvalidField, Some("eth_key"))
            );
            assert!(key.is_empty() || !rejection.error.contains(key));
        }
    }

    #[test]
    fn plain_and_authenticated_requests_carry_the_exact_payload() {
        let body = format!(
            r#"{{"transaction_payload": {PAYLOAD}, "key_id": "{KEY_ID}", "secret": "{SECRET}"}}"#
        );
        let SignTransaction::Plain {
            key_id,
            secret,
            payload,
        } = SignTransaction::parse(body.as_bytes()).unwrap()
        else {
            panic!("a plain request was sent");
        };
        assert_eq!(payload, PAYLOAD);
        let request = AuthenticatedRequest::new(key_id.unwrap(), &secret, 1_700_000_000, payload);
        assert_eq!(
            AuthenticatedRequest::parse(&request.to_json()).unwrap(),
            request
        );

        let wrapped = format!(
            r#"{{"authenticated":{}}}"#,
            String::from_utf8(request.to_json()).unwrap()
        );
        match SignTransaction::parse(wrapped.as_bytes()).unwrap() {
            SignTransaction::Authenticated(read) => assert_eq!(read, request),
            SignTransaction::Plain { .. } => panic!("an authenticated request was sent"),
        }
    }

    #[test]
    fn members_are_checked() {
        let refused = |body: String| {
            let rejection = SignTransaction::parse(body.as_bytes()).unwrap_err();
            (
                rejection.code,
                rejection.field.unwrap_or_default().into_owned(),
            )
        };
        let body = |secret: &str, key_id: &str, payload: &str| {
            format!(r#"{{"secret":{secret},"key_id":{key_id},"transaction_payload":{payload}}}"#)
        };
        let (secret, id) = (format!("\"{SECRET}\""), format!("\"{KEY_ID}\""));
        assert_eq!(
            refused(body("\"short\"", &id, PAYLOAD)),
            (Code::InvalidField, "secret".into())
        );
        assert_eq!(
            refused(body("null", &id, PAYLOAD)),
            (Code::InvalidField, "secret".into())
        );
        assert_eq!(
            refused(body(&secret, "\"x\"", PAYLOAD)),
            (Code::InvalidField, "key_id".into())
        );
        assert_eq!(
            refused(body(&secret, &id, "\"{}\"")),
            (Code::InvalidField, "transaction_payload".into())
        );
        assert_eq!(
            refused(format!(r#"{{"secret":{secret}}}"#)),
            (Code::MissingField, "transaction_payload".into())
        );
        assert_eq!(
            refused(format!(
                r#"{{"secret":{secret},"Secret":1,"transaction_payload":{PAYLOAD}}}"#
            )),
            (Code::UnknownField, "Secret".into())
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = CreateKey::parse(&bytes);
            let _ = SignTransaction::parse(&bytes);
            let _ = AuthenticatedRequest::parse(&bytes);
        }
    }
}
