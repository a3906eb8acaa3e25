//! Verification of responses: they must match the request, and name the signer.

use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Decodable2718 as _;
use alloy::eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Signature, TxKind, keccak256};
use cloister_client::SignedTransaction;
use cloister_protocol::PrivateKey;
use cloister_protocol::payload::Eip1559;
use k256::ecdsa::{RecoveryId, SigningKey, VerifyingKey};

use crate::failure::Failure;

/// Returns the signer of `signed` after checking that it is the requested transaction with its hash.
pub(crate) fn transaction(signed: &SignedTransaction, asked: &Eip1559) -> Result<Address, Failure> {
    let wrong = |problem: &str| Failure::Wrong(problem.to_owned());
    let bytes = const_hex::decode(&signed.transaction_signed)
        .map_err(|_| wrong("the transaction is not hex"))?;
    if keccak256(&bytes) != signed.transaction_hash {
        return Err(wrong("the hash does not belong to the transaction"));
    }
    let envelope =
        TxEnvelope::decode_2718_exact(&bytes).map_err(|_| wrong("it is not a transaction"))?;
    let TxEnvelope::Eip1559(found) = envelope else {
        return Err(wrong("it is not an EIP-1559 transaction"));
    };
    let expected = encode(asked);
    if *found.tx() != expected {
        return Err(wrong("it is not the requested transaction"));
    }
    let signer = recover(found.signature(), &expected.signature_hash())?;
    match asked.from {
        Some(from) if from != signer => Err(Failure::Wrong(format!(
            "it is signed by {signer}, not by {from}"
        ))),
        _ => Ok(signer),
    }
}

/// Recovers the signer of a hash; `signature` is 0x-hex of r ‖ s ‖ v with v 27 or 28.
pub(crate) fn message(signature: &str, hash: &B256) -> Result<Address, Failure> {
    let bytes: [u8; 65] = const_hex::decode_to_array(signature)
        .map_err(|_| Failure::Wrong("the signature is not 65 bytes of hex".to_owned()))?;
    let y_odd = match bytes[64] {
        27 => false,
        28 => true,
        v => {
            return Err(Failure::Wrong(format!(
                "the signature's v is {v}, not 27 or 28"
            )));
        }
    };
    recover(&Signature::from_bytes_and_parity(&bytes[..64], y_odd), hash)
}

/// The address of a private key.
pub(crate) fn address_of(key: &PrivateKey) -> Address {
    let key = SigningKey::from_slice(key.expose()).expect("a PrivateKey is in [1, n-1]");
    address(key.verifying_key())
}

fn recover(signature: &Signature, hash: &B256) -> Result<Address, Failure> {
    let wrong = || Failure::Wrong("no public key matches the signature".to_owned());
    let r_s =
        k256::ecdsa::Signature::from_slice(&signature.as_bytes()[..64]).map_err(|_| wrong())?;
    if r_s.normalize_s() != r_s {
        return Err(Failure::Wrong(
            "the signature has a high s, which Ethereum refuses (EIP-2)".to_owned(),
        ));
    }
    let recovery = RecoveryId::new(signature.v(), false);
    let key =
        VerifyingKey::recover_from_prehash(hash.as_slice(), &r_s, recovery).map_err(|_| wrong())?;
    Ok(address(&key))
}

fn address(key: &VerifyingKey) -> Address {
    // The first byte marks the uncompressed form (SEC 1 §2.3.3).
    Address::from_raw_public_key(&key.to_sec1_point(false).as_bytes()[1..])
}

fn encode(asked: &Eip1559) -> TxEip1559 {
    let item = |item: &cloister_protocol::payload::AccessListItem| AccessListItem {
        address: item.address,
        storage_keys: item.storage_keys.clone(),
    };
    TxEip1559 {
        chain_id: asked.chain_id,
        nonce: asked.nonce,
        gas_limit: asked.gas,
        max_fee_per_gas: asked.max_fee_per_gas,
        max_priority_fee_per_gas: asked.max_priority_fee_per_gas,
        to: asked.to.map_or(TxKind::Create, TxKind::Call),
        value: asked.value,
        access_list: AccessList(asked.access_list.iter().map(item).collect()),
        input: asked.data.clone(),
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;
    use cloister_protocol::payload::SigningPayload;

    use super::*;

    /// The documented transaction.
    const PAYLOAD: &str = r#"{"value":0.01,"to":"0xa5D3241A1591061F2a4bB69CA0215F66520E67cf","nonce":0,"type":2,"chainId":4,"gas":100000,"maxFeePerGas":100000000000,"maxPriorityFeePerGas":3000000000}"#;
    const KEY: &str = "6835311872e1c63b50a8edd16605e2253c2a9c58ef9bf41f1d1c0c724981931a";

    fn asked() -> Box<Eip1559> {
        match SigningPayload::parse(PAYLOAD).unwrap() {
            SigningPayload::Transaction(transaction) => transaction,
            SigningPayload::UserOpHash(_) => unreachable!(),
        }
    }

    fn signed(transaction: TxEip1559) -> SignedTransaction {
        use alloy::eips::eip2718::Encodable2718 as _;

        let key = SigningKey::from_slice(&const_hex::decode(KEY).unwrap()).unwrap();
        let (signature, recovery) =
            key.sign_prehash_recoverable(transaction.signature_hash().as_slice());
        let signature =
            Signature::from_bytes_and_parity(&signature.to_bytes(), recovery.is_y_odd());
        let signed = transaction.into_signed(signature);
        SignedTransaction {
            transaction_signed: const_hex::encode_prefixed(signed.encoded_2718()),
            transaction_hash: *signed.hash(),
        }
    }

    #[test]
    fn the_requested_transaction_names_its_signer() {
        let expected = address_of(&PrivateKey::from_hex(KEY).unwrap());
        assert_eq!(
            transaction(&signed(encode(&asked())), &asked()).unwrap(),
            expected
        );
        assert_eq!(
            expected.to_string(),
            "0xe06C2c216fC36E2d40fB0199623032CC17b3B41b"
        );
    }

    #[test]
    fn any_other_transaction_is_refused() {
        let good = encode(&asked());
        for other in [
            TxEip1559 {
                chain_id: 1,
                ..good.clone()
            },
            TxEip1559 {
                nonce: 1,
                ..good.clone()
            },
            TxEip1559 {
                to: TxKind::Create,
                ..good.clone()
            },
            TxEip1559 {
                value: U256::from(1),
                ..good.clone()
            },
            TxEip1559 {
                input: vec![1].into(),
                ..good.clone()
            },
            TxEip1559 {
                gas_limit: 1,
                ..good.clone()
            },
            TxEip1559 {
                max_fee_per_gas: 1 << 40,
                ..good.clone()
            },
            TxEip1559 {
                max_priority_fee_per_gas: 1,
                ..good.clone()
            },
        ] {
            assert!(matches!(
                transaction(&signed(other), &asked()),
                Err(Failure::Wrong(_))
            ));
        }
        let hash = SignedTransaction {
            transaction_hash: B256::ZERO,
            ..signed(good.clone())
        };
        assert!(
            transaction(&hash, &asked())
                .unwrap_err()
                .to_string()
                .contains("hash")
        );
        let text = format!("{}00", signed(good.clone()).transaction_signed);
        let longer = SignedTransaction {
            transaction_hash: keccak256(const_hex::decode(&text).unwrap()),
            transaction_signed: text,
        };
        assert!(transaction(&longer, &asked()).is_err());
        let from = Eip1559 {
            from: Some(Address::ZERO),
            ..*asked()
        };
        assert!(
            transaction(&signed(good), &from)
                .unwrap_err()
                .to_string()
                .contains("signed by")
        );
    }

    /// The documented signature of the documented UserOp hash.
    #[test]
    fn a_user_op_hash_names_its_signer() {
        let hash = "0xf3df4bcb3b24437160ba86a88f41d522662ed994dddd11ac477cfc16e9a71869"
            .parse()
            .unwrap();
        let signature = "0xd154b7efa02c822051d61899bbeb1ee9887b8bcc30f4f549a3d49950f13ee02d\
                         2140ced835ef716a4648082c762a161e1764950523f3716e0d0a51672b30205d1c";
        let key = PrivateKey::from_hex(
            "4ed3992ca0c7dda74dd9e77adec683afce86605866f1020c063b5ae1b67159c4",
        )
        .unwrap();
        assert_eq!(message(signature, &hash).unwrap(), address_of(&key));
        assert_ne!(message(signature, &B256::ZERO).ok(), Some(address_of(&key)));
        for wrong in [
            "0x",
            &signature[..130],
            &signature.replace("1c", "01"),
            &signature.replace("0xd", "d00"),
        ] {
            assert!(message(wrong, &hash).is_err(), "{wrong}");
        }
    }
}
