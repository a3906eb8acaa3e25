//! The sealed row in transit: public attributes and opaque envelopes, which only `cloister-sealing`
//! opens.

use std::collections::BTreeMap;
use std::fmt;

use alloy_primitives::Address;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::KeyId;

/// One row of the table: public attributes, and one envelope per CMK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRow {
    /// The name of the key.
    pub key_id: KeyId,
    /// The address of the key. Trusted only once an envelope that binds it has been opened.
    pub address: Address,
    /// 1 for a new row, one more with every change.
    pub version: u64,
    /// Seconds since the Unix epoch.
    pub created_at: u64,
    /// CMK ARN → envelope.
    pub sealed: BTreeMap<String, Envelope>,
}

/// One sealed envelope, opaque here; base64 in JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope(pub Vec<u8>);

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({} bytes)", self.0.len())
    }
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        STANDARD
            .decode(text.as_bytes())
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not base64"))
    }
}
