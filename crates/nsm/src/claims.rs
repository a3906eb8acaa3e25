//! The claims of an attestation document.

use crate::error::NsmError;

/// The claims that the requester of an attestation document adds to the registers. The module checks
/// none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Up to [`MAX_USER_DATA_LEN`] bytes of the requester's protocol.
    pub user_data: Option<Vec<u8>>,
    /// Up to [`MAX_NONCE_LEN`] bytes that a verifier chose.
    pub nonce: Option<Vec<u8>>,
    /// 1 to [`MAX_PUBLIC_KEY_LEN`] bytes: a public key whose private half never leaves this
    /// enclave.
    pub public_key: Option<Vec<u8>>,
}

impl Claims {
    /// Checks that every claim has a length that every verifier accepts. Implementations of
    /// [`Nsm::attest`](crate::Nsm::attest) call it first.
    ///
    /// # Errors
    /// [`NsmError::ClaimLength`] names the claim.
    pub fn check_lengths(&self) -> Result<(), NsmError> {
        let claims = [
            ("user_data", &self.user_data, 0, MAX_USER_DATA_LEN),
            ("nonce", &self.nonce, 0, MAX_NONCE_LEN),
            ("public_key", &self.public_key, 1, MAX_PUBLIC_KEY_LEN),
        ];
        for (claim, value, min, max) in claims {
            let Some(value) = value else { continue };
            if !(min..=max).contains(&value.len()) {
                return Err(NsmError::ClaimLength {
                    claim,
                    len: value.len(),
                    max,
                });
            }
        }
        Ok(())
    }
}

/// In bytes. The device takes 1024; the checks that AWS prescribes to verifiers stop at 512.
pub const MAX_USER_DATA_LEN: usize = 512;

/// In bytes. The device takes 1024; the checks that AWS prescribes to verifiers stop at 512.
pub const MAX_NONCE_LEN: usize = 512;

/// In bytes.
pub const MAX_PUBLIC_KEY_LEN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_at_their_limits_pass() {
        let claims = Claims {
            user_data: Some(vec![1; 512]),
            nonce: Some(Vec::new()),
            public_key: Some(vec![1; 1024]),
        };
        claims.check_lengths().unwrap();
        Claims::default().check_lengths().unwrap();
    }

    #[test]
    fn claims_beyond_their_limits_are_refused_by_name() {
        let claim = |claims: Claims| match claims.check_lengths() {
            Err(NsmError::ClaimLength { claim, len, max }) => (claim, len, max),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            claim(Claims {
                user_data: Some(vec![1; 513]),
                ..Claims::default()
            }),
            ("user_data", 513, 512)
        );
        assert_eq!(
            claim(Claims {
                nonce: Some(vec![1; 513]),
                ..Claims::default()
            }),
            ("nonce", 513, 512)
        );
        assert_eq!(
            claim(Claims {
                public_key: Some(vec![1; 1025]),
                ..Claims::default()
            }),
            ("public_key", 1025, 1024)
        );
        assert_eq!(
            claim(Claims {
                public_key: Some(Vec::new()),
                ..Claims::default()
            }),
            ("public_key", 0, 1024)
        );
    }
}
