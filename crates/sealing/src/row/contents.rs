//! The plaintext of an envelope. `SPEC.md` §4.

use cloister_protocol::{PrivateKey, Verifier};
use zeroize::Zeroizing;

use crate::capability::Capabilities;

/// Tag of a verifier that checks HMACs.
const HMAC_VERIFIER: u8 = 1;
/// Tag reserved for the P-256 public key of a caller that signs its requests.
const P256_VERIFIER: u8 = 2;
/// Bytes of a plaintext of format 1: scalar, verifier tag, verifier, capabilities, length of the
/// policy.
pub(super) const CONTENTS_LEN: usize = 32 + 1 + 32 + 4 + 2;

/// The sealed contents: the key, its verifier and its capabilities.
#[derive(Debug)]
pub struct RowContents {
    /// The private key.
    pub key: PrivateKey,
    /// Checks that a request comes from the caller the key belongs to.
    pub verifier: Verifier,
    /// The payloads that the key may sign.
    pub capabilities: Capabilities,
}

impl RowContents {
    pub(super) fn encode(&self) -> Zeroizing<[u8; CONTENTS_LEN]> {
        let mut out = Zeroizing::new([0; CONTENTS_LEN]);
        out[..32].copy_from_slice(self.key.expose());
        out[32] = HMAC_VERIFIER;
        out[33..65].copy_from_slice(self.verifier.expose());
        out[65..69].copy_from_slice(&self.capabilities.bits().to_be_bytes());
        // The policy is empty: its length, in the last two bytes, stays zero.
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, UnsupportedContents> {
        let (scalar, rest) = bytes
            .split_first_chunk::<32>()
            .ok_or(UnsupportedContents::Length)?;
        let (tag, rest) = rest.split_first().ok_or(UnsupportedContents::Length)?;
        match *tag {
            HMAC_VERIFIER => {}
            P256_VERIFIER => return Err(UnsupportedContents::PublicKeyVerifier),
            _ => return Err(UnsupportedContents::Verifier),
        }
        let (verifier, rest) = rest
            .split_first_chunk::<32>()
            .ok_or(UnsupportedContents::Length)?;
        let (capabilities, policy) = rest
            .split_first_chunk::<4>()
            .ok_or(UnsupportedContents::Length)?;
        let capabilities = Capabilities::from_bits(u32::from_be_bytes(*capabilities));
        match policy {
            [0, 0] => {}
            [_, _, ..] => return Err(UnsupportedContents::Policy),
            _ => return Err(UnsupportedContents::Length),
        }
        Ok(Self {
            key: PrivateKey::take(&mut Zeroizing::new(*scalar))
                .map_err(|_| UnsupportedContents::Scalar)?,
            verifier: Verifier::from_bytes(*verifier),
            capabilities: capabilities.ok_or(UnsupportedContents::Capability)?,
        })
    }
}

/// A row that was sealed correctly says something that this version does not understand, so that it
/// cannot be obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedContents {
    /// Too short.
    #[error("the contents have the wrong length")]
    Length,
    /// Not a private key.
    #[error("the scalar is out of range")]
    Scalar,
    /// An unknown kind of verifier.
    #[error("unknown kind of verifier")]
    Verifier,
    /// A caller that signs its requests with P-256, which is reserved.
    #[error("verification of requests by P-256 is not supported yet")]
    PublicKeyVerifier,
    /// An unknown or reserved capability.
    #[error("unknown capability")]
    Capability,
    /// A policy, which is reserved.
    #[error("policies are not supported yet")]
    Policy,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capability::Capability;

    fn bytes(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let contents = RowContents {
            key: PrivateKey::take(&mut [7; 32]).unwrap(),
            verifier: Verifier::from_bytes([9; 32]),
            capabilities: [Capability::Transaction].into_iter().collect(),
        };
        let mut bytes = contents.encode().to_vec();
        change(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_reserved_or_unknown_is_refused() {
        let refused = |change: fn(&mut Vec<u8>)| RowContents::decode(&bytes(change)).err();
        assert_eq!(refused(|_| {}), None);
        assert_eq!(
            refused(|bytes| bytes[..32].fill(0)),
            Some(UnsupportedContents::Scalar)
        );
        assert_eq!(
            refused(|bytes| bytes[..32].fill(0xff)),
            Some(UnsupportedContents::Scalar)
        );
        assert_eq!(
            refused(|bytes| bytes[32] = 0),
            Some(UnsupportedContents::Verifier)
        );
        assert_eq!(
            refused(|bytes| bytes[32] = 2),
            Some(UnsupportedContents::PublicKeyVerifier)
        );
        assert_eq!(
            refused(|bytes| bytes[68] |= 4),
            Some(UnsupportedContents::Capability)
        );
        assert_eq!(
            refused(|bytes| bytes[65] = 0x80),
            Some(UnsupportedContents::Capability)
        );
        assert_eq!(
            refused(|bytes| bytes[70] = 1),
            Some(UnsupportedContents::Policy)
        );
        assert_eq!(
            refused(|bytes| bytes.push(0)),
            Some(UnsupportedContents::Policy)
        );
        assert_eq!(
            refused(|bytes| bytes.truncate(70)),
            Some(UnsupportedContents::Length)
        );
        assert_eq!(refused(Vec::clear), Some(UnsupportedContents::Length));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_re_encode_alike(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(contents) = RowContents::decode(&bytes) {
                prop_assert_eq!(&contents.encode()[..], &bytes[..]);
            }
        }

        #[test]
        fn shape_with_arbitrary_fields(scalar: [u8; 32], verifier: [u8; 32], tag in 0u8..3, bits in 0u32..8, policy in 0u8..2) {
            let bytes = [&scalar[..], &[tag], &verifier, &bits.to_be_bytes(), &[0, policy]].concat();
            if let Ok(contents) = RowContents::decode(&bytes) {
                prop_assert_eq!(&contents.encode()[..], &bytes[..]);
            }
        }
    }
}
