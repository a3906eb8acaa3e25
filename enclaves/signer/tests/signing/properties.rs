//! Random transactions: the result is decoded and compared with the request, and libsecp256k1
//! recovers the signer.

use alloy::consensus::{Signed as SignedTransaction, TxEip1559};
use alloy::eips::eip2718::Decodable2718 as _;
use alloy_primitives::{Address, B256, U256, hex, keccak256};
use cloister_protocol::PrivateKey;
use cloister_protocol::message::Signed;
use cloister_sealing::Capability;
use proptest::collection::vec;
use proptest::prelude::*;
use secp256k1::Message;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};

use crate::fixture::Wallet;

/// A transaction as a caller writes it, and what it means.
#[derive(Clone, Debug)]
struct Request {
    chain_id: u64,
    nonce: u64,
    gas: u64,
    max_fee: u128,
    tip: u128,
    to: Option<[u8; 20]>,
    value: [u8; 32],
    data: Vec<u8>,
    access_list: Vec<([u8; 20], Vec<[u8; 32]>)>,
}

impl Request {
    fn json(&self) -> String {
        let item = |(address, keys): &([u8; 20], Vec<[u8; 32]>)| {
            let keys = keys
                .iter()
                .map(|key| format!("\"{}\"", hex::encode_prefixed(key)))
                .collect::<Vec<_>>();
            format!(
                r#"{{"address":"{}","storageKeys":[{}]}}"#,
                hex::encode_prefixed(address),
                keys.join(",")
            )
        };
        format!(
            r#"{{"type":2,"chainId":{},"nonce":{},"gas":"{:#x}","maxFeePerGas":{},"maxPriorityFeePerGas":"{}","to":{},"valueWei":"{}","data":"{}","accessList":[{}]}}"#,
            self.chain_id,
            self.nonce,
            self.gas,
            self.max_fee,
            self.tip,
            self.to.map_or("null".to_owned(), |to| format!(
                "\"{}\"",
                hex::encode_prefixed(to)
            )),
            U256::from_be_bytes(self.value),
            hex::encode_prefixed(&self.data),
            self.access_list
                .iter()
                .map(item)
                .collect::<Vec<_>>()
                .join(","),
        )
    }
}

prop_compose! {
    fn request()(
        chain_id in 1..=u64::MAX,
        nonce in 0..u64::MAX,
        gas: u64,
        fees: (u128, u128),
        to: Option<[u8; 20]>,
        value: [u8; 32],
        // Numbers with leading zero bytes are where encodings differ.
        zeros in 0usize..=32,
        data in vec(any::<u8>(), 1..200),
        access_list in vec((any::<[u8; 20]>(), vec(any::<[u8; 32]>(), 0..3)), 0..3),
    ) -> Request {
        let mut value = value;
        value[..zeros].fill(0);
        let (max_fee, tip) = (fees.0.max(fees.1), fees.0.min(fees.1));
        Request { chain_id, nonce, gas, max_fee, tip, to, value, data, access_list }
    }
}

fn wallet(mut key: [u8; 32]) -> Option<Wallet> {
    let key = PrivateKey::take(&mut key).ok()?;
    Some(Wallet::new(
        key,
        [Capability::Transaction, Capability::UserOpHash]
            .into_iter()
            .collect(),
    ))
}

/// The signer as libsecp256k1 recovers it.
fn signer(prehash: B256, r_s: &[u8; 64], y_odd: bool) -> Address {
    let recovery = RecoveryId::from_u8_masked(u8::from(y_odd));
    let signature = RecoverableSignature::from_compact(r_s, recovery).unwrap();
    let key = signature
        .recover_ecdsa(Message::from_digest(prehash.0))
        .unwrap();
    Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn a_transaction_is_the_requested_one_and_names_its_signer(request in request(), key: [u8; 32]) {
        let Some(wallet) = wallet(key) else { return Ok(()) };
        let Signed::Transaction { transaction_signed, transaction_hash } = wallet.sign(&request.json()).unwrap() else {
            panic!("a transaction was asked for");
        };
        let bytes = hex::decode(&transaction_signed).unwrap();
        prop_assert_eq!(keccak256(&bytes), transaction_hash.parse::<B256>().unwrap());

        let read = SignedTransaction::<TxEip1559>::decode_2718_exact(&bytes).unwrap();
        let transaction = read.tx();
        prop_assert_eq!(transaction.chain_id, request.chain_id);
        prop_assert_eq!(transaction.nonce, request.nonce);
        prop_assert_eq!(transaction.gas_limit, request.gas);
        prop_assert_eq!(transaction.max_fee_per_gas, request.max_fee);
        prop_assert_eq!(transaction.max_priority_fee_per_gas, request.tip);
        prop_assert_eq!(transaction.to.to().copied(), request.to.map(Address::from));
        prop_assert_eq!(transaction.value, U256::from_be_bytes(request.value));
        prop_assert_eq!(&transaction.input[..], &request.data[..]);
        let access_list = transaction.access_list.iter().map(|item| {
            (item.address.0.0, item.storage_keys.iter().map(|key| key.0).collect::<Vec<_>>())
        });
        prop_assert_eq!(access_list.collect::<Vec<_>>(), request.access_list);

        let r_s = read.signature().as_bytes()[..64].try_into().unwrap();
        prop_assert_eq!(signer(read.signature_hash(), &r_s, read.signature().v()), wallet.row.address);
    }

    #[test]
    fn a_user_op_hash_is_signed_as_it_is(hash: [u8; 32], key: [u8; 32]) {
        let Some(wallet) = wallet(key) else { return Ok(()) };
        let payload = format!(r#"{{"userOpHash":"{}"}}"#, hex::encode(hash));
        let Signed::Signature { signature } = wallet.sign(&payload).unwrap() else {
            panic!("a signature was asked for");
        };
        let bytes: [u8; 65] = hex::decode(signature).unwrap().try_into().unwrap();
        prop_assert!(matches!(bytes[64], 27 | 28));
        let r_s = bytes[..64].try_into().unwrap();
        prop_assert_eq!(signer(hash.into(), &r_s, bytes[64] == 28), wallet.row.address);
    }

    #[test]
    fn arbitrary_bytes_never_panic(request: Vec<u8>, row: Vec<u8>) {
        let _ = cloister_signer::PendingSignature::parse(&request, &row, crate::fixture::NOW);
    }
}
