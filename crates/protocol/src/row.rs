//! The sealed row on the wire: public attributes and opaque envelopes, which only
//! `cloister-sealing` opens.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use alloy_primitives::Address;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::KeyId;

/// One row of the table: public attributes, and one envelope per CMK.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRow {
    /// The key's id.
    pub key_id: KeyId,
    /// The key's address. Trusted only after an envelope that binds it has been opened.
    pub address: Address,
    /// 1 for a new row, one more with every change.
    pub version: u64,
    /// Seconds since the Unix epoch. No envelope binds it: for people, never for decisions.
    pub created_at: u64,
    /// CMK ARN → envelope.
    #[serde(deserialize_with = "without_duplicates")]
    pub sealed: BTreeMap<String, Envelope>,
}

/// Without the envelopes.
impl fmt::Debug for SealedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedRow")
            .field("key_id", &self.key_id)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Serde itself would keep the last of two envelopes under one ARN.
fn without_duplicates<'de, D>(deserializer: D) -> Result<BTreeMap<String, Envelope>, D::Error>
where
    D: Deserializer<'de>,
{
    struct Envelopes;

    impl<'de> Visitor<'de> for Envelopes {
        type Value = BTreeMap<String, Envelope>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of envelopes")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut envelopes = BTreeMap::new();
            while let Some((cmk_arn, envelope)) = map.next_entry()? {
                match envelopes.entry(cmk_arn) {
                    Entry::Vacant(entry) => entry.insert(envelope),
                    Entry::Occupied(_) => return Err(A::Error::custom("duplicate CMK ARN")),
                };
            }
            Ok(envelopes)
        }
    }

    deserializer.deserialize_map(Envelopes)
}

/// One sealed envelope, opaque here; base64 in JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope(pub Vec<u8>);

/// Without the bytes.
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
            .map_err(|_| D::Error::custom("not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#"{"key_id":"8f14e45f-ceea-467f-a5f6-8e7e9f0f2a11",
        "address":"0x0000000000000000000000000000000000000001","version":1,"created_at":0,
        "sealed":{"arn:1":"AAEC","arn:2":"AwQF"}}"#;

    #[test]
    fn an_arn_has_one_envelope() {
        let row: SealedRow = serde_json::from_str(ROW).unwrap();
        assert_eq!(row.sealed.len(), 2);
        let refused = serde_json::from_str::<SealedRow>(&ROW.replace("arn:2", "arn:1"));
        let refused = refused.unwrap_err().to_string();
        assert!(refused.starts_with("duplicate CMK ARN"), "{refused}");
    }

    #[test]
    fn no_envelope_is_shown() {
        let row: SealedRow = serde_json::from_str(ROW).unwrap();
        let shown = format!("{row:?} {:?}", row.sealed);
        for bytes in ["0, 1, 2", "000102", "AAEC"] {
            assert!(!shown.contains(bytes), "{shown}");
        }
        assert!(shown.contains("Envelope(3 bytes)"), "{shown}");
    }
}
