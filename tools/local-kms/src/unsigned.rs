//! Documents of QEMU's `nitro-enclave` machine, which emulates an NSM without a key: signature and
//! certificates are zeros.
//!
//! Anybody who reaches this KMS can write such a document by hand. Therefore only this KMS accepts
//! them, only with an option, and `cloister-attestation`, the verifier that ships, cannot. Format:
//! <https://gitlab.com/qemu-project/qemu/-/blob/v10.0.0/hw/virtio/virtio-nsm.c>.

use std::{collections::BTreeMap, time::Duration};

use ciborium::Value;
use cloister_attestation::{ALLOWED_SKEW, LIVE_MAX_AGE, MAX_DOCUMENT_LEN, UnixTime};
use cloister_contract::nsm::EMULATOR_MODULE_ID_PREFIX;
use serde::{Deserialize, de::DeserializeOwned};

/// The contents of an unsigned document.
#[derive(Debug)]
pub(crate) struct UnsignedDocument {
    timestamp: Duration,
    pub(crate) pcrs: BTreeMap<u8, [u8; 48]>,
    pub(crate) public_key: Option<Vec<u8>>,
}

impl UnsignedDocument {
    /// Parses a document of the emulator; `None` for any other, such as one with a byte of signature
    /// or certificate that is not zero.
    pub(crate) fn parse(document: &[u8]) -> Option<Self> {
        if document.len() > MAX_DOCUMENT_LEN {
            return None;
        }
        let (protected, Unprotected {}, payload, signature): (Value, Unprotected, Value, Value) =
            decode(document)?;
        let payload: Payload = decode(&bytes(payload)?)?;
        let zeros = |value: Value| bytes(value).filter(|bytes| bytes.iter().all(|byte| *byte == 0));
        zeros(signature)?;
        zeros(payload.certificate)?;
        payload
            .cabundle
            .into_iter()
            .map(zeros)
            .collect::<Option<Vec<_>>>()?;
        let emulated = bytes(protected)? == NO_ALGORITHM
            && payload.module_id.starts_with(EMULATOR_MODULE_ID_PREFIX);
        if !emulated || payload.digest != "SHA384" {
            return None;
        }
        let pcrs = payload
            .pcrs
            .into_iter()
            .map(|(index, value)| Some((index, bytes(value)?.try_into().ok()?)));
        Some(Self {
            timestamp: Duration::from_millis(payload.timestamp),
            pcrs: pcrs.collect::<Option<_>>()?,
            public_key: if payload.public_key.is_null() {
                None
            } else {
                Some(bytes(payload.public_key)?)
            },
        })
    }

    /// Checks the age as that of a signed document: neither from the future nor older than five
    /// minutes.
    pub(crate) fn is_of_now(&self, now: UnixTime) -> bool {
        let now = Duration::from_secs(now.as_secs());
        self.timestamp <= now + ALLOWED_SKEW && now.saturating_sub(self.timestamp) <= LIVE_MAX_AGE
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unprotected {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    module_id: String,
    digest: String,
    /// Milliseconds since 1970.
    timestamp: u64,
    pcrs: BTreeMap<u8, Value>,
    certificate: Value,
    cabundle: Vec<Value>,
    public_key: Value,
    #[serde(rename = "user_data")]
    _user_data: Value,
    #[serde(rename = "nonce")]
    _nonce: Value,
}

/// Decodes a value without trailing bytes.
fn decode<T: DeserializeOwned>(mut encoded: &[u8]) -> Option<T> {
    let decoded = ciborium::from_reader(&mut encoded).ok()?;
    encoded.is_empty().then_some(decoded)
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    value.into_bytes().ok()
}

/// `{1: -1}`: the emulator has no signature algorithm.
const NO_ALGORITHM: [u8; 3] = [0xa1, 0x01, 0x20];

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use cloister_attestation::document_time;

    use super::*;

    /// The vector, which the verifier that ships refuses.
    #[test]
    fn a_document_that_an_emulator_wrote() {
        let vector = include_str!("../../../tests/vectors/attestation/emulator-unsigned.json");
        let vector: serde_json::Value = serde_json::from_str(vector).unwrap();
        let document = BASE64_STANDARD
            .decode(vector["document"].as_str().unwrap())
            .unwrap();
        assert!(document_time(&document).is_err());
        let parsed = UnsignedDocument::parse(&document).unwrap();
        assert!(
            [0, 1, 2, 16]
                .iter()
                .all(|index| parsed.pcrs[index] != [0; 48])
        );
        assert!(parsed.public_key.is_some_and(|key| key.len() > 256));
        for length in 0..document.len() {
            assert!(
                UnsignedDocument::parse(&document[..length]).is_none(),
                "{length} bytes"
            );
        }
    }
}
