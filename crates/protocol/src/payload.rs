//! Payloads to sign: an EIP-1559 transaction or a UserOp hash, read from the caller's exact bytes.

mod amount;
mod eip1559;

pub use eip1559::{AccessListItem, Eip1559};

use std::fmt;

use alloy_primitives::B256;

use crate::hex::{self, InvalidHex};
use crate::json::{Object, Value};
use crate::limits::MAX_BODY_LEN;
use crate::secret::SECP256K1_ORDER;
use crate::{Code, Rejection};

/// A payload that may be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningPayload {
    /// An EIP-1559 transaction.
    Transaction(Box<Eip1559>),
    /// The hash of an ERC-4337 user operation, signed as it is: no EIP-191 prefix, no further hash.
    UserOpHash(B256),
}

/// The kind of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// [`SigningPayload::Transaction`].
    Transaction,
    /// [`SigningPayload::UserOpHash`].
    UserOpHash,
}

impl SigningPayload {
    /// Reads a payload; unknown, duplicate and null members are refused by name.
    ///
    /// # Errors
    /// [`Code::BodyTooLarge`], or a rejection of the caller's kind that names the member.
    pub fn parse(text: &str) -> Result<Self, Rejection> {
        check_len(text)?;
        Self::read(Object::parse_within(text.as_bytes(), PATH)?)
    }

    /// The kind of this payload.
    pub fn kind(&self) -> PayloadKind {
        match self {
            Self::Transaction(_) => PayloadKind::Transaction,
            Self::UserOpHash(_) => PayloadKind::UserOpHash,
        }
    }

    fn read(mut object: Object<'_>) -> Result<Self, Rejection> {
        match object.take("userOpHash")? {
            Some(hash) => {
                object.finish()?;
                user_op_hash(&hash).map(Self::UserOpHash)
            }
            None => {
                Eip1559::parse(object).map(|transaction| Self::Transaction(Box::new(transaction)))
            }
        }
    }
}

/// A payload with the exact text it was read from; the two cannot differ.
pub struct Parsed<'a> {
    text: &'a str,
    payload: SigningPayload,
}

impl<'a> Parsed<'a> {
    pub(crate) fn read(member: &Value<'a>) -> Result<Self, Rejection> {
        check_len(member.text())?;
        Ok(Self {
            text: member.text(),
            payload: SigningPayload::read(member.object()?)?,
        })
    }

    /// The exact text, whose bytes are authenticated.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The payload.
    pub fn payload(&self) -> &SigningPayload {
        &self.payload
    }
}

impl fmt::Debug for Parsed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Parsed").field(&self.payload.kind()).finish()
    }
}

fn check_len(text: &str) -> Result<(), Rejection> {
    if text.len() <= MAX_BODY_LEN {
        Ok(())
    } else {
        let problem = "the payload is too large";
        Err(Rejection::new(Code::BodyTooLarge, problem))
    }
}

/// 32 bytes of hex, with or without `0x`, that are not 0 modulo the order of secp256k1: those are
/// an uninitialised variable, and a signature of 0 can be forged.
fn user_op_hash(value: &Value<'_>) -> Result<B256, Rejection> {
    let hash = bytes_32(value, hex::optionally_prefixed)?;
    if hash.is_zero() || hash.0 == SECP256K1_ORDER {
        return Err(value.invalid("must not be 0 or the order n of secp256k1"));
    }
    Ok(hash)
}

/// 32 bytes of hex, whose digits `digits` takes from the text.
fn bytes_32(
    value: &Value<'_>,
    digits: fn(&str) -> Result<&str, InvalidHex>,
) -> Result<B256, Rejection> {
    let text = value.string()?;
    let mut bytes = B256::ZERO;
    digits(&text)
        .and_then(|digits| hex::decode_to_slice(digits, bytes.as_mut_slice()))
        .map_err(|error| value.invalid(error.problem("must be 32 bytes of hex")))?;
    Ok(bytes)
}

/// The payload's member in the caller's body, with which every field name in its errors begins.
const PATH: &str = "transaction_payload";

#[cfg(test)]
mod tests;
