//! Callers' bodies, read by the same code in the front door (to refuse early) and in the enclave
//! (to decide).

use std::fmt;

use serde::Serialize;

use crate::authentication::{AUTHENTICATED, MacDomain, Verifier};
use crate::hex;
use crate::json::{Object, Value};
use crate::key_id::InvalidKeyId;
use crate::limits::{MAX_AUTHENTICATED_LEN, MAX_BODY_LEN};
use crate::payload::{Parsed, PayloadKind, SigningPayload};
use crate::{CallerSecret, Code, KeyId, PrivateKey, Rejection};

/// `generate_key`: `{"secret"}`.
#[derive(Debug)]
pub struct GenerateKey {
    /// The secret that every signature requires.
    pub secret: CallerSecret,
}

impl GenerateKey {
    /// Reads the body.
    ///
    /// # Errors
    /// A rejection of the caller's kind, naming the member.
    pub fn parse(body: &[u8]) -> Result<Self, Rejection> {
        Self::read(Object::parse(body)?)
    }

    fn read(mut object: Object<'_>) -> Result<Self, Rejection> {
        let secret = secret(&mut object)?;
        object.finish()?;
        Ok(Self { secret })
    }
}

/// `set_key`: `{"secret", "eth_key"}`.
#[derive(Debug)]
pub struct SetKey {
    /// The secret that every signature requires.
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
        Self::read(Object::parse(body)?)
    }

    fn read(mut object: Object<'_>) -> Result<Self, Rejection> {
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
        let object = Object::parse(body)?;
        if object.contains("eth_key") {
            SetKey::read(object).map(Self::Import)
        } else {
            GenerateKey::read(object).map(Self::Generate)
        }
    }
}

/// `sign_transaction` as callers send it: `{"key_id", "secret", "transaction_payload"}` or
/// `{"authenticated": {…}}`.
#[derive(Debug)]
pub enum SignRequest<'a> {
    /// With the secret itself.
    Plain {
        /// The key, unless the path names it.
        key_id: Option<KeyId>,
        /// The key's secret.
        secret: CallerSecret,
        /// The payload.
        payload: Parsed<'a>,
    },
    /// Already authenticated by the caller. The payload was read, so that an invalid one is refused
    /// early, and dropped, because its MAC has not been checked.
    Authenticated(AuthenticatedRequest, PayloadKind),
}

impl<'a> SignRequest<'a> {
    /// Reads the body, its payload included.
    ///
    /// # Errors
    /// A rejection of the caller's kind, naming the member.
    pub fn parse(body: &'a [u8]) -> Result<Self, Rejection> {
        let mut object = Object::parse(body)?;
        if let Some(authenticated) = object.take(AUTHENTICATED)? {
            object.finish()?;
            let request = AuthenticatedRequest::read(authenticated.object()?)?;
            let kind = request.signing_payload()?.kind();
            return Ok(Self::Authenticated(request, kind));
        }
        let key_id = object
            .take("key_id")?
            .map(|value| key_id(&value))
            .transpose()?;
        let secret = secret(&mut object)?;
        let payload = object.require("transaction_payload")?;
        object.finish()?;
        Ok(Self::Plain {
            key_id,
            secret,
            payload: Parsed::read(&payload)?,
        })
    }

    /// The key named by the body, if any.
    pub fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::Plain { key_id, .. } => *key_id,
            Self::Authenticated(request, _) => Some(request.key_id),
        }
    }

    /// The kind of the payload.
    pub fn kind(&self) -> PayloadKind {
        match self {
            Self::Plain { payload, .. } => payload.payload().kind(),
            Self::Authenticated(_, kind) => *kind,
        }
    }
}

/// A request whose exact payload bytes are authenticated: the front door makes one of a plain
/// request, and an enclave takes it. As JSON: `{"payload": "…", "key_id", "timestamp", "mac"}`.
///
/// The payload is only text here. It is read once its MAC has been checked:
/// [`AuthenticatedRequest::verify`].
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct AuthenticatedRequest {
    /// The text of the payload; its bytes are authenticated.
    pub payload: String,
    /// The key to sign with.
    pub key_id: KeyId,
    /// Time of the request, in seconds since the Unix epoch.
    pub timestamp: u64,
    /// [`Verifier::mac`] of the request.
    #[serde(serialize_with = "const_hex::serde::no_prefix::serialize")]
    pub mac: [u8; 32],
}

impl AuthenticatedRequest {
    /// Authenticates `payload` with the secret of the key.
    pub fn new(key_id: KeyId, secret: &CallerSecret, timestamp: u64, payload: &str) -> Self {
        let mac = Verifier::derive(secret, key_id).mac(
            MacDomain::SignTransaction,
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

    /// Reads the JSON form. The payload is not read.
    ///
    /// # Errors
    /// [`Code::BodyTooLarge`], or a rejection of the caller's kind that names the member.
    pub fn parse(body: &[u8]) -> Result<Self, Rejection> {
        if body.len() > MAX_AUTHENTICATED_LEN {
            return Err(too_large());
        }
        Self::read(Object::parse_within(body, AUTHENTICATED)?)
    }

    fn read(mut object: Object<'_>) -> Result<Self, Rejection> {
        let key_id = key_id(&object.require("key_id")?)?;
        let timestamp = object.require("timestamp")?;
        let mac = object.require("mac")?;
        let payload = object.require("payload")?;
        object.finish()?;
        let mut mac_bytes = [0; 32];
        hex::optionally_prefixed(&mac.string()?)
            .and_then(|digits| hex::decode_to_slice(digits, &mut mac_bytes))
            .map_err(|error| mac.invalid(error.problem("must be 32 bytes of hex")))?;
        let timestamp = timestamp.text().parse().map_err(|_| {
            timestamp.invalid("must be seconds since the Unix epoch, as a JSON integer")
        })?;
        let payload = std::mem::take(&mut *payload.string()?);
        if payload.len() > MAX_BODY_LEN {
            return Err(too_large());
        }
        Ok(Self {
            payload,
            key_id,
            timestamp,
            mac: mac_bytes,
        })
    }

    /// Checks the MAC in constant time, and only then releases the payload.
    ///
    /// # Errors
    /// [`Code::AuthenticationFailed`].
    pub fn verify(&self, verifier: &Verifier) -> Result<VerifiedPayload<'_>, Rejection> {
        verifier.check(
            MacDomain::SignTransaction,
            self.key_id,
            self.timestamp,
            self.payload.as_bytes(),
            &self.mac,
        )?;
        Ok(VerifiedPayload(self))
    }

    fn signing_payload(&self) -> Result<SigningPayload, Rejection> {
        SigningPayload::parse(&self.payload).map_err(|rejection| match rejection.code {
            // The text itself is at fault, and not a member of the payload.
            Code::MalformedJson => Rejection::field(
                rejection.code,
                format!("{AUTHENTICATED}.payload"),
                "must be the text of one JSON object",
            ),
            _ => rejection,
        })
    }

    /// The JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers only")
    }
}

impl fmt::Debug for AuthenticatedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticatedRequest")
            .field("key_id", &self.key_id)
            .field("timestamp", &self.timestamp)
            .finish_non_exhaustive()
    }
}

/// A payload whose MAC was checked. Only [`AuthenticatedRequest::verify`] makes one.
#[derive(Debug)]
pub struct VerifiedPayload<'a>(&'a AuthenticatedRequest);

impl VerifiedPayload<'_> {
    /// Reads the payload.
    ///
    /// # Errors
    /// A rejection of the caller's kind, naming the member.
    pub fn parse(&self) -> Result<SigningPayload, Rejection> {
        self.0.signing_payload()
    }
}

fn too_large() -> Rejection {
    Rejection::new(Code::BodyTooLarge, "the payload is too large")
}

fn secret(object: &mut Object<'_>) -> Result<CallerSecret, Rejection> {
    let value = object.require("secret")?;
    CallerSecret::new(value.string()?).map_err(|error| value.invalid(error))
}

fn key_id(value: &Value<'_>) -> Result<KeyId, Rejection> {
    let key_id: KeyId = value
        .string()?
        .parse()
        .map_err(|error: InvalidKeyId| value.invalid(format_args!("is {error}")))?;
    key_id.of_caller()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        let SignRequest::Plain {
            key_id,
            secret,
            payload,
        } = SignRequest::parse(body.as_bytes()).unwrap()
        else {
            panic!("a plain request was sent");
        };
        assert_eq!(payload.text(), PAYLOAD);
        let request =
            AuthenticatedRequest::new(key_id.unwrap(), &secret, 1_700_000_000, payload.text());
        assert_eq!(
            AuthenticatedRequest::parse(&request.to_json()).unwrap(),
            request
        );

        let wrapped = format!(
            r#"{{"authenticated":{}}}"#,
            String::from_utf8(request.to_json()).unwrap()
        );
        match SignRequest::parse(wrapped.as_bytes()).unwrap() {
            SignRequest::Authenticated(read, kind) => {
                assert_eq!((read, kind), (request, PayloadKind::UserOpHash));
            }
            SignRequest::Plain { .. } => panic!("an authenticated request was sent"),
        }
    }

    #[test]
    fn members_are_checked() {
        let refused = |body: String| {
            let rejection = SignRequest::parse(body.as_bytes()).unwrap_err();
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

    fn authenticated(change: impl FnOnce(&mut AuthenticatedRequest)) -> Rejection {
        let secret = CallerSecret::new(SECRET.to_owned().into()).unwrap();
        let mut request = AuthenticatedRequest::new(KEY_ID.parse().unwrap(), &secret, 1, PAYLOAD);
        change(&mut request);
        let request = serde_json::to_string(&request).unwrap();
        let body = format!(r#"{{"authenticated":{request}}}"#);
        SignRequest::parse(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn members_of_an_authenticated_request_are_named_from_the_body_on() {
        for payload in ["[]", "7", "{\"type\":", "", "{\"\\ud800\":1}"] {
            let refused = authenticated(|request| request.payload = payload.to_owned());
            assert_eq!(
                (refused.code, refused.field.as_deref()),
                (Code::MalformedJson, Some("authenticated.payload")),
                "{payload}"
            );
        }
        let refused = authenticated(|request| request.payload = "{}".to_owned());
        assert_eq!(refused.field.as_deref(), Some("transaction_payload.type"));
        let window = crate::authentication::check_window(1, 62).unwrap_err();
        assert_eq!(window.field.as_deref(), Some("authenticated.timestamp"));
        let enclave = AuthenticatedRequest::parse(br#"{"key_id":7}"#).unwrap_err();
        assert_eq!(enclave.field.as_deref(), Some("authenticated.key_id"));
    }

    #[test]
    fn the_canary_is_no_key_of_a_caller() {
        let id = KeyId::CANARY;
        let body =
            format!(r#"{{"transaction_payload":{PAYLOAD},"key_id":"{id}","secret":"{SECRET}"}}"#);
        assert_eq!(
            SignRequest::parse(body.as_bytes()).unwrap_err().code,
            Code::KeyNotFound
        );
        let refused = authenticated(|request| request.key_id = id);
        assert_eq!(refused.code, Code::KeyNotFound);
    }

    #[test]
    fn an_authenticated_request_has_its_own_limits() {
        let refused = authenticated(|request| request.payload = " ".repeat(MAX_BODY_LEN + 1));
        assert_eq!(refused.code, Code::BodyTooLarge);
        let long = vec![b' '; MAX_AUTHENTICATED_LEN + 1];
        let refused = AuthenticatedRequest::parse(&long).unwrap_err();
        assert_eq!(refused.code, Code::BodyTooLarge);
    }

    #[test]
    fn a_payload_is_released_by_its_mac_only() {
        let secret = CallerSecret::new(SECRET.to_owned().into()).unwrap();
        let key_id = KEY_ID.parse().unwrap();
        let mut request = AuthenticatedRequest::new(key_id, &secret, 1, PAYLOAD);
        let verifier = Verifier::derive(&secret, key_id);
        let released = request.verify(&verifier).unwrap().parse().unwrap();
        assert_eq!(released.kind(), PayloadKind::UserOpHash);
        request.payload = PAYLOAD.replace("f3df", "f3de");
        assert_eq!(
            request.verify(&verifier).unwrap_err().code,
            Code::AuthenticationFailed
        );
        assert!(!format!("{request:?}").contains("userOpHash"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = CreateKey::parse(&bytes);
            let _ = SignRequest::parse(&bytes);
            let _ = AuthenticatedRequest::parse(&bytes);
        }
    }
}
