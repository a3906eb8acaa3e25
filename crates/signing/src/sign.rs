//! ECDSA signatures over secp256k1, checked before they leave.

use alloy_primitives::{Address, B256};
use cloister_protocol::{Code, PrivateKey, Rejection};
use ecdsa::hazmat::sign_prehashed_rfc6979;
use k256::Secp256k1;
use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
use k256::sha2::Sha256;

use crate::address::{of_point, scalar};

/// A signature in the parts that Ethereum uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoverableSignature {
    /// r ‖ s, big-endian, 32 bytes each; s is at most n/2 (EIP-2).
    pub r_s: [u8; 64],
    /// Parity of the y coordinate of R: `yParity` of a typed transaction, `v − 27` of a message
    /// signature.
    pub y_odd: bool,
}

/// Signs `prehash` with the nonce of RFC 6979 §3.2 (HMAC-SHA-256): equal inputs have equal
/// signatures.
///
/// This does not hash, prefix or domain-separate its input.
///
/// # Errors
/// [`SigningError`] if the finished signature does not recover to `expected`: the key does not belong
/// to that address, or the computation went wrong. The signature is dropped.
pub fn sign_prehash(
    key: &PrivateKey,
    prehash: &B256,
    expected: Address,
) -> Result<RecoverableSignature, SigningError> {
    // Not through `SigningKey`, which computes the public key first: the comparison below must not
    // depend on it.
    let (signature, recovery) =
        sign_prehashed_rfc6979::<Secp256k1, Sha256>(&scalar(key), prehash.as_slice(), &[]);
    check(signature, recovery, prehash, expected)
}

/// Passes a signature only if its recovered signer is `expected`.
fn check(
    signature: Signature,
    recovery: RecoveryId,
    prehash: &B256,
    expected: Address,
) -> Result<RecoverableSignature, SigningError> {
    // An r above n is legal in ECDSA but cannot be expressed in Ethereum; a high s is refused by it
    // (EIP-2).
    if recovery.is_x_reduced() || signature.normalize_s() != signature {
        return Err(SigningError);
    }
    let signer = VerifyingKey::recover_from_prehash(prehash.as_slice(), &signature, recovery)
        .map_err(|_| SigningError)?;
    if of_point(signer.as_affine()) != expected {
        return Err(SigningError);
    }
    Ok(RecoverableSignature {
        r_s: signature.to_bytes().into(),
        y_odd: recovery.is_y_odd(),
    })
}

/// The finished signature does not belong to the expected address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not recover to the address of the key")]
pub struct SigningError;

impl From<SigningError> for Rejection {
    fn from(_: SigningError) -> Self {
        Self::new(
            Code::Internal,
            "the signature failed its self-check and was dropped",
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address;

    /// The documented UserOp hash, signed as it is.
    #[test]
    fn known_signature() {
        let key = PrivateKey::from_hex(
            "4ed3992ca0c7dda74dd9e77adec683afce86605866f1020c063b5ae1b67159c4",
        )
        .unwrap();
        let prehash = "0xf3df4bcb3b24437160ba86a88f41d522662ed994dddd11ac477cfc16e9a71869"
            .parse()
            .unwrap();
        let signature = sign_prehash(&key, &prehash, address(&key)).unwrap();
        let expected = "0xd154b7efa02c822051d61899bbeb1ee9887b8bcc30f4f549a3d49950f13ee02d\
                        2140ced835ef716a4648082c762a161e1764950523f3716e0d0a51672b30205d";
        assert_eq!(
            format!("0x{}", alloy_primitives::hex::encode(signature.r_s)),
            expected
        );
        assert!(signature.y_odd);
    }

    #[test]
    fn another_address_gets_no_signature() {
        let key = PrivateKey::take(&mut [7; 32]).unwrap();
        assert_eq!(
            sign_prehash(&key, &B256::repeat_byte(1), Address::ZERO),
            Err(SigningError)
        );
    }

    #[test]
    fn faulty_signatures_are_dropped() {
        let key = PrivateKey::take(&mut [7; 32]).unwrap();
        let (prehash, ours) = (B256::repeat_byte(1), address(&key));
        let (good, recovery) =
            sign_prehashed_rfc6979::<Secp256k1, Sha256>(&scalar(&key), prehash.as_slice(), &[]);
        assert!(check(good, recovery, &prehash, ours).is_ok());

        let flipped = RecoveryId::new(!recovery.is_y_odd(), false);
        assert_eq!(
            check(good, flipped, &prehash, ours),
            Err(SigningError),
            "recovery id"
        );
        let reduced = RecoveryId::new(recovery.is_y_odd(), true);
        assert_eq!(
            check(good, reduced, &prehash, ours),
            Err(SigningError),
            "reduced x"
        );
        let (r, s) = good.split_scalars();
        let high = Signature::from_scalars(r, -s).unwrap();
        assert_eq!(
            check(high, flipped, &prehash, ours),
            Err(SigningError),
            "high s"
        );
        for bit in 0..512 {
            let mut bytes: [u8; 64] = good.to_bytes().into();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(faulty) = Signature::from_slice(&bytes) {
                assert_eq!(
                    check(faulty, recovery, &prehash, ours),
                    Err(SigningError),
                    "bit {bit}"
                );
            }
        }
    }

    /// The signature of libsecp256k1 for the same input.
    fn second_opinion(key: [u8; 32], prehash: [u8; 32]) -> ([u8; 64], u8) {
        let key = secp256k1::SecretKey::from_secret_bytes(key).unwrap();
        let message = secp256k1::Message::from_digest(prehash);
        let (id, r_s) =
            secp256k1::ecdsa::RecoverableSignature::sign_ecdsa_recoverable(message, &key)
                .serialize_compact();
        (r_s, id.to_u8())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Same r, s and recovery id as libsecp256k1, also for keys with up to 31 leading zero
        /// bytes: the reference deployment drops those zeros.
        #[test]
        fn reference_defect_short_keys_sign_like_libsecp256k1(
            bytes: [u8; 32],
            zeros in 0usize..32,
            prehash: [u8; 32],
        ) {
            let mut bytes = bytes;
            bytes[..zeros].fill(0);
            let Ok(key) = PrivateKey::take(&mut bytes.clone()) else { return Ok(()) };
            let signature = sign_prehash(&key, &prehash.into(), address(&key)).unwrap();
            prop_assert_eq!((signature.r_s, u8::from(signature.y_odd)), second_opinion(bytes, prehash));
        }
    }
}
