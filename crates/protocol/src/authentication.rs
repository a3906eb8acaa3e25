//! Proof that a caller knows the secret of a key, without the enclave keeping the secret. `SPEC.md`
//! §4.
//!
//! ```text
//! verifier  = HKDF-SHA256(ikm = secret, salt = key id (16 bytes), info = "cloister/verifier/hmac/v1"), 32 bytes
//! canonical = field("cloister/request/v1") ‖ field(domain) ‖ field(key id) ‖ field(timestamp, u64) ‖ field(payload)
//! field(x)  = u32 length of x ‖ x
//! mac       = HMAC-SHA256(verifier, canonical)
//! ```
//! RFC 5869 (HKDF), RFC 2104 (HMAC). Integers are big-endian; the timestamp is in seconds since the
//! Unix epoch.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::ZeroizeOnDrop;

use crate::limits::REQUEST_WINDOW;
use crate::{CallerSecret, Code, KeyId, Rejection};

/// Domain separator of a request MAC: a MAC for one operation is never valid for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacDomain {
    /// Sign a transaction or a UserOp hash.
    SignTransaction,
}

impl MacDomain {
    fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::SignTransaction => b"sign_transaction",
        }
    }
}

/// The value that a row keeps instead of the secret: sufficient to check a MAC, and the secret
/// cannot be derived from it. It is sufficient to make a MAC as well, so it is treated as a secret.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Verifier([u8; 32]);

impl Verifier {
    /// Derives the verifier of `secret` for the key `key_id`; it differs from key to key.
    pub fn derive(secret: &CallerSecret, key_id: KeyId) -> Self {
        let mut verifier = Self([0; 32]);
        Hkdf::<Sha256>::new(Some(key_id.as_bytes()), secret.expose().as_bytes())
            .expand(VERIFIER_INFO, &mut verifier.0)
            .expect("HKDF-SHA256 outputs up to 8160 bytes, and 32 are requested");
        verifier
    }

    /// A verifier read from a row.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, for sealing.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The MAC of a request.
    pub fn mac(
        &self,
        domain: MacDomain,
        key_id: KeyId,
        timestamp: u64,
        payload: &[u8],
    ) -> [u8; 32] {
        mac_of_fields(
            &self.0,
            &[
                REQUEST_DOMAIN,
                domain.as_bytes(),
                key_id.as_bytes(),
                &timestamp.to_be_bytes(),
                payload,
            ],
        )
    }

    /// Checks a MAC in constant time.
    ///
    /// # Errors
    /// [`Code::AuthenticationFailed`], the same for a wrong secret as for a tampered request.
    pub fn check(
        &self,
        domain: MacDomain,
        key_id: KeyId,
        timestamp: u64,
        payload: &[u8],
        mac: &[u8; 32],
    ) -> Result<(), Rejection> {
        if bool::from(self.mac(domain, key_id, timestamp, payload).ct_eq(mac)) {
            Ok(())
        } else {
            Err(Rejection::new(
                Code::AuthenticationFailed,
                "the secret does not belong to this key",
            ))
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}

/// HMAC-SHA256 over `field(x) = u32 length of x ‖ x` of every field.
pub(crate) fn mac_of_fields(key: &[u8; 32], fields: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    for field in fields {
        // No field reaches 4 GiB: the longest is a payload of at most MAX_BODY_LEN.
        mac.update(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        mac.update(field);
    }
    mac.finalize().into_bytes().into()
}

/// Checks that `timestamp` lies within [`REQUEST_WINDOW`] of `now`, before or after. Both in
/// seconds since the Unix epoch.
///
/// # Errors
/// [`Code::TimestampOutOfWindow`].
pub fn check_window(timestamp: u64, now: u64) -> Result<(), Rejection> {
    if timestamp.abs_diff(now) <= REQUEST_WINDOW.as_secs() {
        Ok(())
    } else {
        Err(Rejection::field(
            Code::TimestampOutOfWindow,
            format!("{AUTHENTICATED}.timestamp"),
            format_args!(
                "must lie within {} seconds of the current time",
                REQUEST_WINDOW.as_secs()
            ),
        ))
    }
}

/// The member of a caller's body that holds an authenticated request. Every field name in its
/// errors begins with it, at every hop.
pub(crate) const AUTHENTICATED: &str = "authenticated";
/// Domain label of the verifier.
const VERIFIER_INFO: &[u8] = b"cloister/verifier/hmac/v1";
/// Domain label of the canonical bytes.
const REQUEST_DOMAIN: &[u8] = b"cloister/request/v1";

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn verifier(secret: &str, key_id: KeyId) -> Verifier {
        Verifier::derive(
            &CallerSecret::new(Zeroizing::new(secret.into())).unwrap(),
            key_id,
        )
    }

    #[test]
    fn every_field_is_bound() {
        let (id, other) = (
            KeyId::from_random_bytes([1; 16]),
            KeyId::from_random_bytes([2; 16]),
        );
        let ours = verifier("correct horse battery staple", id);
        let mac = ours.mac(MacDomain::SignTransaction, id, 1000, b"payload");
        assert!(
            ours.check(MacDomain::SignTransaction, id, 1000, b"payload", &mac)
                .is_ok()
        );

        let refused = |verifier: &Verifier, id, timestamp, payload: &[u8]| {
            verifier
                .check(MacDomain::SignTransaction, id, timestamp, payload, &mac)
                .unwrap_err()
                .code
        };
        assert_eq!(
            refused(&ours, other, 1000, b"payload"),
            Code::AuthenticationFailed
        );
        assert_eq!(
            refused(&ours, id, 1001, b"payload"),
            Code::AuthenticationFailed
        );
        assert_eq!(
            refused(&ours, id, 1000, b"payloae"),
            Code::AuthenticationFailed
        );
        assert_eq!(
            refused(
                &verifier("correct horse battery staplf", id),
                id,
                1000,
                b"payload"
            ),
            Code::AuthenticationFailed
        );
        assert_eq!(
            refused(
                &verifier("correct horse battery staple", other),
                id,
                1000,
                b"payload"
            ),
            Code::AuthenticationFailed
        );
    }

    /// The reference deployment accepted timestamps of the future.
    #[test]
    fn reference_defect_one_sided_window() {
        assert!(check_window(1000, 1060).is_ok());
        assert!(check_window(1060, 1000).is_ok());
        assert_eq!(
            check_window(1000, 1061).unwrap_err().code,
            Code::TimestampOutOfWindow
        );
        assert_eq!(
            check_window(1061, 1000).unwrap_err().code,
            Code::TimestampOutOfWindow
        );
        assert_eq!(
            check_window(u64::MAX, 0).unwrap_err().code,
            Code::TimestampOutOfWindow
        );
    }
}
