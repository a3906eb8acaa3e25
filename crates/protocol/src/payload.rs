//! What is signed: an EIP-1559 transaction or a UserOp hash, read from the caller's exact bytes.

mod amount;
mod eip1559;

pub use eip1559::{AccessListItem, Eip1559};

use alloy_primitives::B256;

use crate::Rejection;
use crate::json::{Object, Value};

/// Where the payload stands in the caller's body; the start of every field name in its errors.
const PATH: &str = "transaction_payload";

/// A payload that may be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningPayload {
    /// An EIP-1559 transaction.
    Transaction(Box<Eip1559>),
    /// The hash of an ERC-4337 user operation, signed as it stands: no EIP-191 prefix, no further
    /// hash.
    UserOpHash(B256),
}

impl SigningPayload {
    /// Reads a payload; unknown, duplicate and null members are refused by name.
    ///
    /// # Errors
    /// A rejection of the caller's kind, naming the member.
    pub fn parse(text: &[u8]) -> Result<Self, Rejection> {
        let mut object = Object::parse_within(text, PATH)?;
        match object.take("userOpHash")? {
            Some(hash) => {
                object.finish()?;
                Ok(Self::UserOpHash(bytes_32(&hash)?))
            }
            None => {
                Eip1559::parse(object).map(|transaction| Self::Transaction(Box::new(transaction)))
            }
        }
    }
}

/// 32 bytes of hex, with or without `0x`.
fn bytes_32(value: &Value<'_>) -> Result<B256, Rejection> {
    let mut bytes = B256::ZERO;
    const_hex::decode_to_slice(value.string()?.as_str(), bytes.as_mut_slice())
        .map_err(|_| value.invalid("must be 32 bytes of hex"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
