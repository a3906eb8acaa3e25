//! Signs an EIP-1559 transaction, <https://eips.ethereum.org/EIPS/eip-1559>.
//!
//! ```text
//! hash   = keccak256(0x02 ‖ rlp([chain_id, nonce, max_priority_fee_per_gas, max_fee_per_gas, gas_limit, destination, amount, data, access_list]))
//! signed = 0x02 ‖ rlp([the same, signature_y_parity, signature_r, signature_s])
//! ```

use alloy::consensus::{SignableTransaction as _, Signed as SignedTransaction, TxEip1559};
use alloy::eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
use alloy::eips::eip2930;
use alloy_primitives::{Signature, TxKind};
use cloister_protocol::message::Signed;
use cloister_protocol::payload::{AccessListItem, Eip1559};
use cloister_protocol::{Code, Rejection};
use cloister_sealing::OpenedRow;

pub(super) fn sign(row: &OpenedRow, request: &Eip1559) -> Result<Signed, Rejection> {
    if request.from.is_some_and(|from| from != row.address()) {
        return Err(Rejection::invalid(
            "transaction_payload.from",
            "is not the address of this key",
        ));
    }
    let transaction = unsigned(request);
    let signature = row.sign_prehash(&transaction.signature_hash())?;
    let signed = transaction.into_signed(Signature::from_bytes_and_parity(
        &signature.r_s,
        signature.y_odd,
    ));
    let encoded = signed.encoded_2718();
    if !matches(&encoded, request) {
        return Err(Rejection::new(
            Code::Internal,
            "the transaction failed its self-check and was dropped",
        ));
    }
    Ok(Signed::Transaction {
        transaction_signed: const_hex::encode_prefixed(&encoded),
        transaction_hash: const_hex::encode_prefixed(signed.hash()),
    })
}

fn unsigned(request: &Eip1559) -> TxEip1559 {
    TxEip1559 {
        chain_id: request.chain_id,
        nonce: request.nonce,
        gas_limit: request.gas,
        max_fee_per_gas: request.max_fee_per_gas,
        max_priority_fee_per_gas: request.max_priority_fee_per_gas,
        to: request.to.map_or(TxKind::Create, TxKind::Call),
        value: request.value,
        access_list: request
            .access_list
            .iter()
            .map(list_item)
            .collect::<Vec<_>>()
            .into(),
        input: request.data.clone(),
    }
}

fn list_item(item: &AccessListItem) -> eip2930::AccessListItem {
    eip2930::AccessListItem {
        address: item.address,
        storage_keys: item.storage_keys.clone(),
    }
}

/// Reads the finished bytes as a network would, and compares every field with the request.
fn matches(encoded: &[u8], request: &Eip1559) -> bool {
    let Ok(read) = SignedTransaction::<TxEip1559>::decode_2718_exact(encoded) else {
        return false;
    };
    let TxEip1559 {
        chain_id,
        nonce,
        gas_limit,
        max_fee_per_gas,
        max_priority_fee_per_gas,
        to,
        value,
        access_list,
        input,
    } = read.tx();
    *chain_id == request.chain_id
        && *nonce == request.nonce
        && *gas_limit == request.gas
        && *max_fee_per_gas == request.max_fee_per_gas
        && *max_priority_fee_per_gas == request.max_priority_fee_per_gas
        && to.to() == request.to.as_ref()
        && *value == request.value
        && access_list.len() == request.access_list.len()
        && access_list
            .iter()
            .zip(&request.access_list)
            .all(|(read, asked)| {
                read.address == asked.address && read.storage_keys == asked.storage_keys
            })
        && *input == request.data
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256, Bytes, U256};

    use super::*;

    fn request() -> Eip1559 {
        Eip1559 {
            chain_id: 1,
            nonce: 2,
            gas: 21_000,
            max_fee_per_gas: 4,
            max_priority_fee_per_gas: 3,
            to: Some(Address::repeat_byte(5)),
            value: U256::from(6),
            data: Bytes::from_static(&[7]),
            access_list: vec![AccessListItem {
                address: Address::repeat_byte(8),
                storage_keys: vec![B256::repeat_byte(9)],
            }],
            from: None,
        }
    }

    fn encoded(request: &Eip1559) -> Vec<u8> {
        unsigned(request)
            .into_signed(Signature::test_signature())
            .encoded_2718()
    }

    #[test]
    fn a_difference_in_any_field_is_seen() {
        assert!(matches(&encoded(&request()), &request()));
        let changes: [fn(&mut Eip1559); 12] = [
            |request| request.chain_id = 9,
            |request| request.nonce = 9,
            |request| request.gas = 9,
            |request| request.max_fee_per_gas = 9,
            |request| request.max_priority_fee_per_gas = 9,
            |request| request.to = None,
            |request| request.to = Some(Address::ZERO),
            |request| request.value = U256::from(9),
            |request| request.data = Bytes::new(),
            |request| request.access_list.clear(),
            |request| request.access_list[0].address = Address::ZERO,
            |request| request.access_list[0].storage_keys.clear(),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut other = request();
            change(&mut other);
            assert!(!matches(&encoded(&other), &request()), "change {index}");
        }
    }

    #[test]
    fn bytes_after_the_transaction_are_seen() {
        let mut longer = encoded(&request());
        longer.push(0);
        assert!(!matches(&longer, &request()));
    }
}
