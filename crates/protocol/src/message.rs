//! Bodies of request and response frames between a pod and its enclave. `SPEC.md` §2.
//!
//! ```text
//! request  = u8 operation ‖ one or more parts, each u32 length ‖ bytes   (how many parts: fixed per operation)
//! response = u8 0 ‖ JSON result   |   u8 1 ‖ JSON rejection
//! ```

use std::fmt;

use alloy_primitives::Address;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use cloister_contract::Service;
use serde::{Deserialize, Serialize};

use crate::{Code, KeyId, Redacted, Rejection};

/// The operations of an enclave, each with a fixed number of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Health check. No parts; returns [`HealthReport`].
    Health = 1,
    /// Credentials and CMK. One part: [`Configure`] as JSON; returns [`HealthReport`].
    Configure = 2,
    /// Proof of the running image. One part: a nonce of 16 to 64 bytes; returns [`BootProof`].
    ProveBoot = 3,
    /// One part: the caller's body for `generate_key`; returns [`KeyCreated`]. Key generator only.
    GenerateKey = 16,
    /// One part: the caller's body for `set_key`; returns [`KeyCreated`]. Key generator only.
    SetKey = 17,
    /// Two parts: the authenticated request ([`crate::request::AuthenticatedRequest`]) and the
    /// key's row ([`crate::SealedRow`] as JSON); returns [`Signed`]. Signer only.
    SignTransaction = 32,
    /// One part: the canary row of the current generator as JSON; returns [`HealthReport`]. Signer
    /// only.
    OpenCanary = 33,
}

impl Operation {
    /// Every operation.
    pub const ALL: &[Self] = &[
        Self::Health,
        Self::Configure,
        Self::ProveBoot,
        Self::GenerateKey,
        Self::SetKey,
        Self::SignTransaction,
        Self::OpenCanary,
    ];

    /// The number of parts of a request.
    pub fn parts(self) -> usize {
        match self {
            Self::Health => 0,
            Self::Configure
            | Self::ProveBoot
            | Self::GenerateKey
            | Self::SetKey
            | Self::OpenCanary => 1,
            Self::SignTransaction => 2,
        }
    }
}

/// A request to an enclave. Its parts are uninterpreted.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The requested operation.
    pub operation: Operation,
    /// [`Operation::parts`] of them. They may hold secrets.
    pub parts: Vec<Bytes>,
}

impl Request {
    /// The body of a request frame.
    pub fn encode(&self) -> Bytes {
        debug_assert_eq!(self.parts.len(), self.operation.parts());
        let mut out = BytesMut::with_capacity(
            1 + self.parts.iter().map(|part| 4 + part.len()).sum::<usize>(),
        );
        out.put_u8(self.operation as u8);
        for part in &self.parts {
            // A part longer than a frame makes the frame too long, which encoding the frame
            // refuses.
            out.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
            out.put_slice(part);
        }
        out.freeze()
    }

    /// Reads the body of a request frame.
    ///
    /// # Errors
    /// [`Code::ProtocolViolation`] for an unknown operation, a wrong number of parts, or bytes
    /// after the last.
    pub fn decode(mut body: Bytes) -> Result<Self, Rejection> {
        let violation = |what| Rejection::new(Code::ProtocolViolation, what);
        if body.is_empty() {
            return Err(violation("empty request"));
        }
        let byte = body.get_u8();
        let operation = Operation::ALL
            .iter()
            .copied()
            .find(|operation| *operation as u8 == byte)
            .ok_or_else(|| violation("unknown operation"))?;
        let mut parts = Vec::with_capacity(operation.parts());
        for _ in 0..operation.parts() {
            if body.len() < 4 {
                return Err(violation("part missing"));
            }
            let length = usize::try_from(body.get_u32()).map_err(|_| violation("part too long"))?;
            if length > body.len() {
                return Err(violation("part too long"));
            }
            parts.push(body.split_to(length));
        }
        if body.is_empty() {
            Ok(Self { operation, parts })
        } else {
            Err(violation("bytes after the last part"))
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths: Vec<_> = self.parts.iter().map(Bytes::len).collect();
        f.debug_struct("Request")
            .field("operation", &self.operation)
            .field("part_lengths", &lengths)
            .finish()
    }
}

/// The body of a response frame: the result as JSON bytes, or a rejection.
pub fn encode_response(response: &Result<Vec<u8>, Rejection>) -> Bytes {
    let mut out = BytesMut::new();
    match response {
        Ok(result) => {
            out.put_u8(0);
            out.put_slice(result);
        }
        Err(rejection) => {
            out.put_u8(1);
            out.put_slice(&serde_json::to_vec(rejection).expect("a rejection is strings only"));
        }
    }
    out.freeze()
}

/// Reads the body of a response frame.
///
/// # Errors
/// The rejection it carries, or [`Code::ProtocolViolation`] if it is neither result nor rejection.
pub fn decode_response(mut body: Bytes) -> Result<Bytes, Rejection> {
    let violation = || Rejection::new(Code::ProtocolViolation, "malformed response");
    match body.first() {
        Some(0) => Ok(body.split_off(1)),
        Some(1) => Err(serde_json::from_slice(&body[1..]).unwrap_or_else(|_| violation())),
        _ => Err(violation()),
    }
}

/// AWS credentials, pushed by a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The access key id.
    #[serde(serialize_with = "Redacted::expose_to")]
    pub access_key_id: Redacted,
    /// The secret access key.
    #[serde(serialize_with = "Redacted::expose_to")]
    pub secret_access_key: Redacted,
    /// The session token of temporary credentials; empty for long-lived ones.
    #[serde(serialize_with = "Redacted::expose_to")]
    pub session_token: Redacted,
    /// Time of expiry, in seconds since the Unix epoch.
    pub expires_at: Option<u64>,
}

/// Credentials and CMK, pushed by the pod. Neither is trusted: the CMK has to be adopted, and the
/// credentials replace earlier ones only after they worked on the adopted CMK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// The full ARN of the CMK.
    pub cmk_arn: String,
    /// Credentials of the enclave's role.
    pub credentials: Credentials,
}

/// Readiness of an enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for [`Configure`].
    Unconfigured,
    /// Adopted a CMK, and has not opened the canary row yet.
    Adopted,
    /// Serves callers.
    Ready,
}

/// The result of [`Operation::Health`], [`Operation::Configure`] and [`Operation::OpenCanary`].
/// Holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthReport {
    /// The enclave's service.
    pub service: Service,
    /// Version of the enclave's software.
    pub version: String,
    /// Readiness.
    pub state: State,
    /// The adopted CMK.
    pub cmk_arn: Option<String>,
    /// True if the adopted key policy is the locked form; false for the open form.
    pub locked: bool,
    /// PCR0 as the NSM reports it, lower-case hex.
    pub pcr0: String,
}

/// The result of [`Operation::ProveBoot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootProof {
    /// An attestation document, base64: user data `boot`, the nonce, and as public key the boot key
    /// (SEC 1, uncompressed), which PCR16 holds as well.
    pub document: String,
    /// The boot key's ECDSA-SHA256 signature over `cloister/boot/v1` ‖ nonce: r ‖ s, 0x-hex.
    pub signature: String,
}

/// The result of [`Operation::GenerateKey`] and [`Operation::SetKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCreated {
    /// The name of the new key.
    pub key_id: KeyId,
    /// Its address; EIP-55 in JSON.
    #[serde(serialize_with = "checksummed")]
    pub address: Address,
}

/// The result of [`Operation::SignTransaction`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Signed {
    /// A signed transaction.
    Transaction {
        /// The EIP-2718 encoding, 0x-hex, as `eth_sendRawTransaction` takes it.
        transaction_signed: String,
        /// Its hash, 0x-hex.
        transaction_hash: String,
    },
    /// The signature of a UserOp hash.
    Signature {
        /// 0x-hex of r ‖ s ‖ v, v being 27 or 28.
        signature: String,
    },
}

fn checksummed<S: serde::Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&address.to_checksum(None))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn requests_round_trip(first: Vec<u8>, second: Vec<u8>) {
            for operation in Operation::ALL {
                let parts = [&first, &second].into_iter().take(operation.parts()).map(|part| Bytes::copy_from_slice(part));
                let request = Request { operation: *operation, parts: parts.collect() };
                prop_assert_eq!(Request::decode(request.encode()), Ok(request));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_re_encode_alike(bytes: Vec<u8>) {
            if let Ok(request) = Request::decode(bytes.clone().into()) {
                prop_assert_eq!(&request.encode()[..], &bytes[..]);
            }
            let _ = decode_response(bytes.into());
        }
    }

    #[test]
    fn responses_round_trip() {
        let rejection = Rejection::invalid("transaction_payload.value", "must not be negative");
        assert_eq!(
            decode_response(encode_response(&Err(rejection.clone()))),
            Err(rejection)
        );
        assert_eq!(
            decode_response(encode_response(&Ok(b"{}".to_vec()))),
            Ok(Bytes::from_static(b"{}"))
        );
        assert_eq!(
            decode_response(Bytes::from_static(b"\x02"))
                .unwrap_err()
                .code,
            Code::ProtocolViolation
        );
    }

    #[test]
    fn parts_are_not_shown() {
        let request = Request {
            operation: Operation::GenerateKey,
            parts: vec![Bytes::from_static(br#"{"secret":"hunter2"}"#)],
        };
        let shown = format!("{request:?}");
        assert_eq!(
            shown,
            "Request { operation: GenerateKey, part_lengths: [20] }"
        );
    }

    #[test]
    fn credentials_are_not_shown() {
        let credentials = Credentials {
            access_key_id: Redacted::new("AKIDEXAMPLE".into()),
            secret_access_key: Redacted::new("wJalrXUtn".into()),
            session_token: Redacted::new("IQoJb3JpZ2lu".into()),
            expires_at: None,
        };
        let shown = format!("{credentials:?}");
        for value in ["AKIDEXAMPLE", "wJalrXUtn", "IQoJb3JpZ2lu"] {
            assert!(!shown.contains(value), "{shown}");
        }
    }
}
