//! The fields of an EIP-1559 transaction, <https://eips.ethereum.org/EIPS/eip-1559>, as the caller
//! wrote them.

use alloy_primitives::{Address, B256, Bytes, U256};

use super::amount::{ether, integer, integer_within};
use super::bytes_32;
use crate::json::{Object, Value};
use crate::limits::MAX_CALLDATA_LEN;
use crate::{Code, Rejection};

/// An EIP-1559 transaction to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eip1559 {
    /// EIP-155 chain id, at least 1.
    pub chain_id: u64,
    /// Nonce of the sender; below 2^64 − 1 (EIP-2681).
    pub nonce: u64,
    /// Gas limit.
    pub gas: u64,
    /// Most wei per gas.
    pub max_fee_per_gas: u128,
    /// Most wei per gas for the block's producer; not above `max_fee_per_gas`.
    pub max_priority_fee_per_gas: u128,
    /// The recipient; `None` creates a contract.
    pub to: Option<Address>,
    /// Amount in wei.
    pub value: U256,
    /// Calldata, or the init code of a contract.
    pub data: Bytes,
    /// EIP-2930 access list.
    pub access_list: Vec<AccessListItem>,
    /// The sender as the caller believes it to be; must equal the key's address.
    pub from: Option<Address>,
}

/// One address of an access list with its storage keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessListItem {
    /// The address.
    pub address: Address,
    /// Its storage keys.
    pub storage_keys: Vec<B256>,
}

impl Eip1559 {
    pub(super) fn parse(mut object: Object<'_>) -> Result<Self, Rejection> {
        // First, so that the fields of another type are not called unknown.
        require_type_2(&object.require("type")?)?;

        let data = match object.take_either("data", "input")? {
            Some(data) => calldata(&data)?,
            None => Bytes::new(),
        };
        let transaction = Self {
            chain_id: chain_id(&object.require("chainId")?)?,
            nonce: nonce(&object.require("nonce")?)?,
            gas: integer_within(&object.require("gas")?, "2^64")?,
            max_fee_per_gas: integer_within(&object.require("maxFeePerGas")?, "2^128")?,
            max_priority_fee_per_gas: 0,
            to: recipient(&mut object, &data)?,
            value: value(&mut object)?,
            data,
            access_list: object
                .take("accessList")?
                .map_or(Ok(Vec::new()), |list| access_list(&list))?,
            from: object
                .take("from")?
                .map(|from| address(&from))
                .transpose()?,
        };
        let tip = object.require("maxPriorityFeePerGas")?;
        let max_priority_fee_per_gas = integer_within(&tip, "2^128")?;
        if max_priority_fee_per_gas > transaction.max_fee_per_gas {
            return Err(tip.invalid("must not be greater than maxFeePerGas"));
        }
        object.finish()?;
        Ok(Self {
            max_priority_fee_per_gas,
            ..transaction
        })
    }
}

fn require_type_2(value: &Value<'_>) -> Result<(), Rejection> {
    let number = integer(value)?;
    if number == U256::from(2) {
        Ok(())
    } else if number <= U256::from(4) {
        Err(value.refused(
            Code::UnsupportedTransactionType,
            "must be 2: only EIP-1559 transactions are signed",
        ))
    } else {
        Err(value.invalid("must be 2: only EIP-1559 transactions are signed"))
    }
}

fn chain_id(value: &Value<'_>) -> Result<u64, Rejection> {
    match integer_within(value, "2^64")? {
        0 => Err(value.invalid("must be at least 1")),
        id => Ok(id),
    }
}

fn nonce(value: &Value<'_>) -> Result<u64, Rejection> {
    match integer_within(value, "2^64 - 1")? {
        u64::MAX => Err(value.invalid("must be below 2^64 - 1")),
        nonce => Ok(nonce),
    }
}

fn value(object: &mut Object<'_>) -> Result<U256, Rejection> {
    match (object.take("value")?, object.take("valueWei")?) {
        (Some(_), Some(wei)) => Err(wei.invalid("must not stand beside value; send one of them")),
        (Some(amount), None) => ether(&amount),
        (None, Some(wei)) => integer(&wei),
        (None, None) => Ok(U256::ZERO),
    }
}

/// A missing recipient is a mistake; a contract is created only by an explicit null, and only from
/// code.
fn recipient(object: &mut Object<'_>, data: &Bytes) -> Result<Option<Address>, Rejection> {
    let to = object
        .take_nullable("to")
        .ok_or_else(|| object.missing("to"))?;
    if !to.is_null() {
        return address(&to).map(Some);
    }
    if data.is_empty() {
        return Err(to.invalid("may be null only to create a contract, which needs data"));
    }
    Ok(None)
}

/// 20 bytes of hex, with or without 0x; EIP-55 is checked when upper and lower case are mixed.
fn address(value: &Value<'_>) -> Result<Address, Rejection> {
    let text = value.string()?;
    let digits = text.strip_prefix("0x").unwrap_or(&text);
    let mut bytes = [0; 20];
    const_hex::decode_to_slice(digits, &mut bytes)
        .map_err(|_| value.invalid("must be 20 bytes of hex"))?;
    let address = Address::from(bytes);
    let mixed = digits.bytes().any(|digit| digit.is_ascii_uppercase())
        && digits.bytes().any(|digit| digit.is_ascii_lowercase());
    if mixed && address.to_checksum_buffer(None).as_str().strip_prefix("0x") != Some(digits) {
        return Err(value.invalid("has a wrong EIP-55 checksum"));
    }
    Ok(address)
}

fn calldata(value: &Value<'_>) -> Result<Bytes, Rejection> {
    let text = value.string()?;
    if text.strip_prefix("0x").unwrap_or(&text).len() > 2 * MAX_CALLDATA_LEN {
        return Err(value.invalid(format_args!("must have at most {MAX_CALLDATA_LEN} bytes")));
    }
    const_hex::decode(text.as_str())
        .map(Bytes::from)
        .map_err(|_| value.invalid("must be hex with an even number of digits"))
}

fn access_list(value: &Value<'_>) -> Result<Vec<AccessListItem>, Rejection> {
    value.array()?.iter().map(access_list_item).collect()
}

fn access_list_item(value: &Value<'_>) -> Result<AccessListItem, Rejection> {
    let mut object = value.object()?;
    let item = AccessListItem {
        address: address(&object.require("address")?)?,
        storage_keys: object
            .require("storageKeys")?
            .array()?
            .iter()
            .map(bytes_32)
            .collect::<Result<_, _>>()?,
    };
    object.finish()?;
    Ok(item)
}
