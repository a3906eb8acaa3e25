//! The name of one wallet key: a lower-case hyphenated UUID.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::{Code, Rejection};

/// The name of one wallet key. It has exactly one textual form: a lower-case hyphenated UUID of 36
/// characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Uuid);

impl KeyId {
    /// The name of the canary row, which the current key generator writes and a signer opens before
    /// it serves. The nil UUID: no random key id can be equal to it.
    pub const CANARY: Self = Self(Uuid::nil());

    /// This id, unless it is the canary's: that row belongs to no caller.
    ///
    /// # Errors
    /// [`Code::KeyNotFound`].
    pub fn of_caller(self) -> Result<Self, Rejection> {
        if self == Self::CANARY {
            Err(Rejection::new(Code::KeyNotFound, "unknown key id"))
        } else {
            Ok(self)
        }
    }

    /// A key id from 16 random bytes, as a version 4 UUID (RFC 9562 §5.4).
    pub fn from_random_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The 16 bytes of the UUID, as they enter key derivation and authenticated data.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        let uuid = Uuid::try_parse(text).map_err(|_| InvalidKeyId)?;
        // `try_parse` also takes braces, URNs, upper case and the form without hyphens; a name must
        // have one spelling.
        if uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) != text {
            return Err(InvalidKeyId);
        }
        Ok(Self(uuid))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// The text is not a lower-case hyphenated UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a lower-case UUID of 36 characters")]
pub struct InvalidKeyId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_only() {
        let text = "7e99e372-0eba-4001-8002-35e6a1478070";
        assert_eq!(text.parse::<KeyId>().unwrap().to_string(), text);
        for other in [
            "7E99E372-0EBA-4001-8002-35E6A1478070",
            "7e99e3720eba4001800235e6a1478070",
            "{7e99e372-0eba-4001-8002-35e6a1478070}",
            "urn:uuid:7e99e372-0eba-4001-8002-35e6a1478070",
            "7e99e372-0eba-4001-8002-35e6a147807",
            "",
        ] {
            assert_eq!(other.parse::<KeyId>(), Err(InvalidKeyId), "{other}");
        }
    }
}
