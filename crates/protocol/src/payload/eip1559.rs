//! The fields of an EIP-1559 transaction, <https://eips.ethereum.org/EIPS/eip-1559>, as the caller
//! wrote them.

use alloy_primitives::{Address, B256, Bytes, U256};

use super::amount::{ether, integer};
use super::bytes_32;
use crate::hex::{self, InvalidHex};
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
        let chain_id = chain_id(&object.require("chainId")?)?;
        let nonce = nonce(&object.require("nonce")?)?;
        let gas = object
            .take_either("gas", "gasLimit")?
            .ok_or_else(|| object.missing("gas"))?;
        let gas = integer(&gas, "2^64")?;
        let (max_fee_per_gas, max_priority_fee_per_gas) = fees(&mut object)?;
        let transaction = Self {
            chain_id,
            nonce,
            gas,
            max_fee_per_gas,
            max_priority_fee_per_gas,
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
        object.finish()?;
        Ok(transaction)
    }
}

/// Every other integer is the type of another transaction; other values are not a type.
fn require_type_2(value: &Value<'_>) -> Result<(), Rejection> {
    const ONLY_2: &str = "must be 2: only EIP-1559 transactions are signed";
    if integer::<U256>(value, "2^256")? == U256::from(2) {
        Ok(())
    } else {
        Err(value.refused(Code::UnsupportedTransactionType, ONLY_2))
    }
}

/// `maxFeePerGas` and `maxPriorityFeePerGas`, which may be 0.
fn fees(object: &mut Object<'_>) -> Result<(u128, u128), Rejection> {
    let max_fee = integer(&object.require("maxFeePerGas")?, "2^128")?;
    let tip = object.require("maxPriorityFeePerGas")?;
    let max_priority_fee = integer(&tip, "2^128")?;
    if max_priority_fee > max_fee {
        return Err(tip.invalid("must not be greater than maxFeePerGas"));
    }
    Ok((max_fee, max_priority_fee))
}

fn chain_id(value: &Value<'_>) -> Result<u64, Rejection> {
    match integer(value, "2^64")? {
        0 => Err(value.invalid("must be at least 1")),
        id => Ok(id),
    }
}

fn nonce(value: &Value<'_>) -> Result<u64, Rejection> {
    match integer(value, "2^64 - 1")? {
        u64::MAX => Err(value.invalid("must be below 2^64 - 1")),
        nonce => Ok(nonce),
    }
}

fn value(object: &mut Object<'_>) -> Result<U256, Rejection> {
    match (object.take("value")?, object.take("valueWei")?) {
        (Some(_), Some(wei)) => Err(wei.invalid("excludes value; send one of them")),
        (Some(amount), None) => ether(&amount),
        (None, Some(wei)) => integer(&wei, "2^256"),
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

/// 20 bytes of 0x-hex; EIP-55 is checked if upper and lower case are mixed.
fn address(value: &Value<'_>) -> Result<Address, Rejection> {
    let text = value.string()?;
    let invalid = |error: InvalidHex| value.invalid(error.problem("must be 20 bytes of hex"));
    let digits = hex::prefixed(&text).map_err(invalid)?;
    let mut address = Address::ZERO;
    hex::decode_to_slice(digits, address.as_mut_slice()).map_err(invalid)?;
    let mixed = digits.bytes().any(|digit| digit.is_ascii_uppercase())
        && digits.bytes().any(|digit| digit.is_ascii_lowercase());
    if mixed && address.to_checksum_buffer(None).as_str() != *text {
        return Err(value.invalid("has a wrong EIP-55 checksum"));
    }
    Ok(address)
}

/// At most [`MAX_CALLDATA_LEN`] bytes of 0x-hex, the init code of a contract included: EIP-3860
/// limits that to 49 152 bytes, but not on every chain, and a chain with that limit refuses the
/// transaction at no cost. The rules of a chain are its nodes' to check.
fn calldata(value: &Value<'_>) -> Result<Bytes, Rejection> {
    let text = value.string()?;
    let invalid = |error: InvalidHex| {
        value.invalid(error.problem("must be hex with an even number of digits"))
    };
    let digits = hex::prefixed(&text).map_err(invalid)?;
    if digits.len() > 2 * MAX_CALLDATA_LEN {
        return Err(value.refused(
            Code::BodyTooLarge,
            format_args!("must have at most {MAX_CALLDATA_LEN} bytes"),
        ));
    }
    hex::decode(digits).map(Bytes::from).map_err(invalid)
}

fn access_list(value: &Value<'_>) -> Result<Vec<AccessListItem>, Rejection> {
    value.array(|item| {
        if item.is_array() {
            access_list_pair(&item)
        } else {
            access_list_object(&item)
        }
    })
}

/// `{"address", "storageKeys"}`, the form of JSON-RPC.
fn access_list_object(item: &Value<'_>) -> Result<AccessListItem, Rejection> {
    let mut object = item.object()?;
    let address = address(&object.require("address")?)?;
    let storage_keys = object
        .take_nullable("storageKeys")
        .ok_or_else(|| object.missing("storageKeys"))?;
    let storage_keys = self::storage_keys(&storage_keys)?;
    object.finish()?;
    Ok(AccessListItem {
        address,
        storage_keys,
    })
}

/// `[address, storage keys]`, as ethers writes it.
fn access_list_pair(item: &Value<'_>) -> Result<AccessListItem, Rejection> {
    let (mut address, mut storage_keys) = (None, None);
    item.array(|element| {
        match (&address, &storage_keys) {
            (None, _) => address = Some(self::address(&element)?),
            (_, None) => storage_keys = Some(self::storage_keys(&element)?),
            _ => return Err(element.invalid("is more than an address and its storage keys")),
        }
        Ok(())
    })?;
    match (address, storage_keys) {
        (Some(address), Some(storage_keys)) => Ok(AccessListItem {
            address,
            storage_keys,
        }),
        _ => Err(item.invalid("must be an address and its storage keys")),
    }
}

/// Nodes return `null` for none.
fn storage_keys(value: &Value<'_>) -> Result<Vec<B256>, Rejection> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    value.array(|key| bytes_32(&key, hex::prefixed))
}
