//! Signs the hash of an ERC-4337 user operation, <https://eips.ethereum.org/EIPS/eip-4337>, as it
//! is: no EIP-191 prefix, no further hash. This is a blind signature, and therefore has its own
//! permission.

use alloy_primitives::B256;
use cloister_protocol::Rejection;
use cloister_protocol::message::Signed;
use cloister_sealing::OpenedRow;

/// `r ‖ s ‖ v`, v = 27 + parity of R's y (Yellow Paper, appendix F).
pub(super) fn sign(row: &OpenedRow, hash: &B256) -> Result<Signed, Rejection> {
    let signature = row.sign_prehash(hash)?;
    let mut bytes = [0; 65];
    bytes[..64].copy_from_slice(&signature.r_s);
    bytes[64] = 27 + u8::from(signature.y_odd);
    Ok(Signed::Signature {
        signature: const_hex::encode_prefixed(bytes),
    })
}
