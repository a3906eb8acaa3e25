//! The measurement of an enclave image, as the policy compares it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// PCR0 of an enclave image: a SHA-384 digest, never all zeros.
///
/// A debug-mode enclave measures as zeros, whatever it runs; a policy that admitted zeros would
/// admit every debug enclave.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pcr0([u8; 48]);

impl Pcr0 {
    /// The 48 bytes of the digest.
    pub fn as_bytes(&self) -> &[u8; 48] {
        &self.0
    }
}

impl TryFrom<[u8; 48]> for Pcr0 {
    type Error = InvalidPcr0;

    fn try_from(bytes: [u8; 48]) -> Result<Self, InvalidPcr0> {
        if bytes == [0; 48] {
            Err(InvalidPcr0::Debug)
        } else {
            Ok(Self(bytes))
        }
    }
}

impl FromStr for Pcr0 {
    type Err = InvalidPcr0;

    /// Reads 96 lower-case hexadecimal digits, the form in which KMS compares measurements.
    fn from_str(text: &str) -> Result<Self, InvalidPcr0> {
        let lower = text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() != 96 || !lower {
            return Err(InvalidPcr0::Form);
        }
        let mut bytes = [0; 48];
        const_hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidPcr0::Form)?;
        Self::try_from(bytes)
    }
}

impl fmt::Display for Pcr0 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(self.0))
    }
}

impl fmt::Debug for Pcr0 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pcr0({self})")
    }
}

impl Serialize for Pcr0 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pcr0 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// An unusable PCR0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPcr0 {
    /// Not 96 lower-case hexadecimal digits.
    #[error("a PCR0 is 96 lower-case hexadecimal digits")]
    Form,
    /// All zeros: every debug-mode enclave.
    #[error("a PCR0 of zeros is the measurement of every debug-mode enclave")]
    Debug,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let text = "0f".repeat(48);
        assert_eq!(text.parse::<Pcr0>().unwrap().to_string(), text);
    }

    #[test]
    fn zeros_and_other_spellings_are_refused() {
        assert_eq!("00".repeat(48).parse::<Pcr0>(), Err(InvalidPcr0::Debug));
        assert_eq!(Pcr0::try_from([0; 48]), Err(InvalidPcr0::Debug));
        for text in [
            "",
            "0x0f",
            &"0F".repeat(48),
            &"0f".repeat(47),
            &"0f".repeat(49),
            &"0g".repeat(48),
        ] {
            assert_eq!(text.parse::<Pcr0>(), Err(InvalidPcr0::Form), "{text}");
        }
    }
}
