//! Ethereum addresses of keys.

use alloy_primitives::Address;
use cloister_protocol::PrivateKey;
use k256::elliptic_curve::sec1::ToSec1Point as _;
use k256::{AffinePoint, NonZeroScalar, ProjectivePoint};
use zeroize::Zeroizing;

/// The address of a key: the last 20 bytes of Keccak-256(x ‖ y) of its public key (Yellow Paper,
/// appendix F).
pub fn address(key: &PrivateKey) -> Address {
    of_point(&ProjectivePoint::mul_by_generator(&scalar(key)).to_affine())
}

/// The address of a public key.
pub(crate) fn of_point(point: &AffinePoint) -> Address {
    // The first byte of the uncompressed form is a tag (SEC 1 §2.3.3).
    Address::from_raw_public_key(&point.to_sec1_point(false).as_bytes()[1..])
}

/// The key as k256's scalar, wiped when dropped.
pub(crate) fn scalar(key: &PrivateKey) -> Zeroizing<NonZeroScalar> {
    let scalar = NonZeroScalar::from_repr((*key.expose()).into());
    Zeroizing::new(scalar.expect("a PrivateKey is in [1, n-1]"))
}

#[cfg(test)]
mod tests {
    use alloy_primitives::address as parse;

    use super::*;

    #[test]
    fn known_addresses() {
        for (key, expected) in [
            (
                "6835311872e1c63b50a8edd16605e2253c2a9c58ef9bf41f1d1c0c724981931a",
                parse!("0xe06c2c216fc36e2d40fb0199623032cc17b3b41b"),
            ),
            (
                "372369f374c68952bcb2ba2e3f3802d41d51cb255446c27def96cc848605d679",
                parse!("0x3a82fab48e073a239ffbb7c8bf913c104ce8d484"),
            ),
            // The key 1: its public key is the generator.
            (
                "0000000000000000000000000000000000000000000000000000000000000001",
                parse!("0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"),
            ),
        ] {
            assert_eq!(address(&PrivateKey::from_hex(key).unwrap()), expected);
        }
    }
}
