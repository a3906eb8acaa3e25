//! Values that are never printed: the caller's secret, the private key, the front door's key,
//! credentials, the session value.

use std::fmt;

use crypto_bigint::{CtLt as _, U256};
use serde::{Deserialize, Deserializer, Serializer};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::hex;
use crate::limits::{MAX_SECRET_LEN, MIN_SECRET_LEN};

/// A secp256k1 private key: 32 bytes, big-endian, in [1, n−1].
///
/// The only type that holds one. Boxed so that moves leave no copies behind, wiped when dropped; it
/// has no `Clone`, no `PartialEq`, no `Serialize`, and its `Debug` shows nothing.
#[derive(ZeroizeOnDrop)]
pub struct PrivateKey(Box<[u8; 32]>);

impl PrivateKey {
    /// Takes the key out of `bytes`, which is wiped; always all 32 bytes, leading zeros included.
    ///
    /// # Errors
    /// [`InvalidPrivateKey`] if the number is zero or not below the group order.
    pub fn take(bytes: &mut [u8; 32]) -> Result<Self, InvalidPrivateKey> {
        let mut key = Self(Box::new([0; 32]));
        key.0.copy_from_slice(bytes);
        bytes.zeroize();
        if key.in_range() {
            Ok(key)
        } else {
            Err(InvalidPrivateKey)
        }
    }

    /// Reads exactly 64 hex digits, with or without `0x`.
    ///
    /// # Errors
    /// [`InvalidPrivateKey`] if the length, a character or the range is wrong.
    pub fn from_hex(text: &str) -> Result<Self, InvalidPrivateKey> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::optionally_prefixed(text)
            .and_then(|digits| hex::decode_to_slice(digits, bytes.as_mut_slice()))
            .map_err(|_| InvalidPrivateKey)?;
        Self::take(&mut bytes)
    }

    /// The 32 bytes, for signing or sealing; never for output.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks that the number lies in [1, n−1], in time independent of its value.
    fn in_range(&self) -> bool {
        let number = Zeroizing::new(U256::from_be_slice(self.0.as_slice()));
        let below = number.ct_lt(&U256::from_be_slice(&SECP256K1_ORDER));
        (below & number.is_nonzero()).to_bool()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// The bytes are not a secp256k1 private key. Without a reason, so that it can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a secp256k1 private key: 32 bytes of hex in [1, n-1]")]
pub struct InvalidPrivateKey;

/// The caller's secret for one wallet key: 20 to 256 printable ASCII characters. Wiped when
/// dropped.
#[derive(ZeroizeOnDrop)]
pub struct CallerSecret(Box<str>);

impl CallerSecret {
    /// Takes over `text` if it has an allowed length and only printable ASCII (0x20 to 0x7e); wipes
    /// it otherwise.
    ///
    /// # Errors
    /// [`InvalidSecret`] without the text.
    pub fn new(text: Zeroizing<String>) -> Result<Self, InvalidSecret> {
        let allowed = (MIN_SECRET_LEN..=MAX_SECRET_LEN).contains(&text.len())
            && text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        if allowed {
            Ok(Self(text.as_str().into()))
        } else {
            Err(InvalidSecret)
        }
    }

    /// The characters, for key derivation; never for output.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CallerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerSecret(..)")
    }
}

/// The text is not an allowed secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {MIN_SECRET_LEN} to {MAX_SECRET_LEN} printable ASCII characters")]
pub struct InvalidSecret;

/// The random value that binds an enclave to its pod for one boot. Wiped when dropped; it has no
/// `PartialEq`, so that it is compared in constant time only.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SessionValue(Box<[u8; SESSION_LEN]>);

impl SessionValue {
    /// Takes over `bytes`, which are random.
    pub fn new(bytes: [u8; SESSION_LEN]) -> Self {
        Self(Box::new(bytes))
    }

    /// Reads exactly 64 hex digits.
    ///
    /// # Errors
    /// [`InvalidSessionValue`] otherwise.
    pub fn from_hex(text: &str) -> Result<Self, InvalidSessionValue> {
        let mut value = Self::new([0; SESSION_LEN]);
        hex::decode_to_slice(text, value.0.as_mut_slice()).map_err(|_| InvalidSessionValue)?;
        Ok(value)
    }

    /// Compares in time independent of the values.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(other.0.as_slice()).into()
    }

    /// The bytes, for a hello; never for output.
    pub fn expose(&self) -> &[u8; SESSION_LEN] {
        &self.0
    }
}

impl fmt::Debug for SessionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionValue(..)")
    }
}

/// The text is not a session value. Without a reason, so that it can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a session value: 64 hex digits")]
pub struct InvalidSessionValue;

/// The key with which the front door authenticates its requests to pods: 32 random bytes.
///
/// Boxed so that moves leave no copies behind, wiped when dropped, and never cloned.
#[derive(ZeroizeOnDrop)]
pub struct FrontDoorKey(Box<[u8; 32]>);

impl FrontDoorKey {
    /// Reads exactly 64 hex digits in lower case.
    ///
    /// # Errors
    /// [`InvalidFrontDoorKey`] without the text.
    pub fn from_hex(text: &str) -> Result<Self, InvalidFrontDoorKey> {
        let mut key = Self(Box::new([0; 32]));
        hex::decode_lower_case(text, key.0.as_mut_slice()).map_err(|_| InvalidFrontDoorKey)?;
        Ok(key)
    }

    /// The 32 bytes, for a MAC; never for output.
    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for FrontDoorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrontDoorKey(..)")
    }
}

/// The text is not a key of the front door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 64 hex digits in lower case")]
pub struct InvalidFrontDoorKey;

/// A string that must not be printed, such as a credential. It has no `Serialize`: a field that
/// goes to the wire has `#[serde(serialize_with = "Redacted::expose_to")]`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Redacted(String);

impl Redacted {
    /// Takes over `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Serializes the text itself.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn expose_to<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redacted(..)")
    }
}

impl<'de> Deserialize<'de> for Redacted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// Bytes of a session value.
pub const SESSION_LEN: usize = 32;
/// The order n of the secp256k1 group, big-endian (SEC 2 §2.4.1).
pub(crate) const SECP256K1_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: [u8; 32]) -> Result<PrivateKey, InvalidPrivateKey> {
        PrivateKey::take(&mut { bytes })
    }

    #[test]
    fn range_is_one_to_order_minus_one() {
        let mut one = [0; 32];
        one[31] = 1;
        let mut below = SECP256K1_ORDER;
        below[31] -= 1;
        let mut above = SECP256K1_ORDER;
        above[31] += 1;
        assert!(key(one).is_ok());
        assert!(key(below).is_ok());
        assert!(key([0; 32]).is_err());
        assert!(key(SECP256K1_ORDER).is_err());
        assert!(key(above).is_err());
        assert!(key([0xff; 32]).is_err());
    }

    #[test]
    fn hex_has_exactly_64_digits() {
        let digits = "6835311872e1c63b50a8edd16605e2253c2a9c58ef9bf41f1d1c0c724981931a";
        let key = PrivateKey::from_hex(digits).unwrap();
        assert_eq!(
            key.expose(),
            PrivateKey::from_hex(&format!("0x{digits}"))
                .unwrap()
                .expose()
        );
        for wrong in [
            "",
            "0x",
            &digits[1..],
            &digits[2..],
            &format!("{digits}00"),
            &digits.replace('6', "g"),
            &format!("0X{digits}"),
            &format!("0x0x{digits}"),
        ] {
            assert_eq!(PrivateKey::from_hex(wrong).err(), Some(InvalidPrivateKey));
        }
    }

    #[test]
    fn nothing_is_shown() {
        let key = key([7; 32]).unwrap();
        let secret = CallerSecret::new(Zeroizing::new("x".repeat(20))).unwrap();
        let session = SessionValue::new([7; SESSION_LEN]);
        let front_door = FrontDoorKey::from_hex(&"0a".repeat(32)).unwrap();
        let shown = format!(
            "{key:?} {secret:?} {front_door:?} {:?} {session:?}",
            Redacted::new("y".into())
        );
        assert_eq!(
            shown,
            "PrivateKey(..) CallerSecret(..) FrontDoorKey(..) Redacted(..) SessionValue(..)"
        );
    }

    #[test]
    fn a_session_value_has_exactly_64_digits_and_matches_itself_alone() {
        let digits = "0f".repeat(SESSION_LEN);
        let value = SessionValue::from_hex(&digits).unwrap();
        assert!(value.matches(&SessionValue::new([0x0f; SESSION_LEN])));
        for index in 0..SESSION_LEN {
            let mut other = [0x0f; SESSION_LEN];
            other[index] ^= 0x80;
            assert!(!value.matches(&SessionValue::new(other)), "{index}");
        }
        for wrong in [
            "",
            &digits[2..],
            &format!("{digits}00"),
            &format!("0x{digits}"),
            &digits.replace('f', "g"),
        ] {
            assert_eq!(
                SessionValue::from_hex(wrong).err(),
                Some(InvalidSessionValue)
            );
        }
    }

    #[test]
    fn a_key_of_the_front_door_has_one_spelling() {
        let digits = "0123456789abcdef".repeat(4);
        let key = FrontDoorKey::from_hex(&digits).unwrap();
        assert_eq!(const_hex::encode(key.expose()), digits);
        for wrong in [
            "",
            &digits[1..],
            &digits[2..],
            &format!("{digits}00"),
            &format!("0x{digits}"),
            &format!("{digits}\n"),
            &digits.replace('f', "F"),
            &digits.replace('f', "g"),
        ] {
            let refused = FrontDoorKey::from_hex(wrong).err();
            assert_eq!(refused, Some(InvalidFrontDoorKey), "{wrong}");
        }
    }

    #[test]
    fn secret_lengths_and_characters() {
        let secret = |text: &str| CallerSecret::new(Zeroizing::new(text.to_owned()));
        assert!(secret(&"a".repeat(20)).is_ok());
        assert!(secret(&"~ ".repeat(128)).is_ok());
        for wrong in [
            "a".repeat(19),
            "a".repeat(257),
            format!("{}\n", "a".repeat(20)),
            "ä".repeat(20),
        ] {
            assert!(secret(&wrong).is_err());
        }
    }
}
