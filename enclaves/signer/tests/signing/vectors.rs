//! Byte for byte what other implementations sign, one file per case.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloister_protocol::message::Signed;
use cloister_protocol::{PrivateKey, Rejection};
use cloister_sealing::Capability;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::fixture::Wallet;

/// Signs the case of this name and compares.
fn case(name: &str) {
    let (case, outcome) = sign(name);
    match outcome.unwrap() {
        Signed::Transaction {
            transaction_signed,
            transaction_hash,
        } => {
            assert_eq!(transaction_signed, case["transaction_signed"]);
            assert_eq!(transaction_hash, case["transaction_hash"]);
        }
        Signed::Signature { signature } => assert_eq!(signature, case["signature"]),
    }
}

/// Compares why the case of this name is not signed.
fn refused(name: &str) {
    let (case, outcome) = sign(name);
    let rejection = outcome.unwrap_err();
    assert_eq!(rejection.code.as_str(), case["code"], "{name}: {rejection}");
    if let Some(field) = case["field"].as_str() {
        assert_eq!(
            rejection.field.as_deref(),
            Some(field),
            "{name}: {rejection}"
        );
    }
}

fn sign(name: &str) -> (Value, Result<Signed, Rejection>) {
    let text = fs::read_to_string(directory().join(name).with_extension("json")).unwrap();
    // The payload's exact text is what is parsed: a JSON value would have rounded its numbers
    // already.
    let exact: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text).unwrap();
    let case: Value = serde_json::from_str(&text).unwrap();
    let key = PrivateKey::from_hex(case["eth_key"].as_str().unwrap()).unwrap();
    let wallet = Wallet::new(
        key,
        [Capability::Transaction, Capability::UserOpHash]
            .into_iter()
            .collect(),
    );
    assert_eq!(
        wallet.row.address.to_string().to_lowercase(),
        case["address"]
    );
    (case, wallet.sign(exact["transaction_payload"].get()))
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/signing")
}

#[test]
fn documentation_example() {
    case("eip1559-documentation-example");
}

/// 0.01 ether is 10^16 wei; through a 32-bit float it was 9999999776482582.
#[test]
fn reference_defect_amount_through_a_float() {
    case("eip1559-documentation-example");
    case("eip1559-18-decimals");
}

#[test]
fn s_of_31_bytes() {
    case("eip1559-s-of-31-bytes");
}

#[test]
fn user_op_hash() {
    case("user-op-hash");
}

#[test]
fn contract_creation() {
    case("eip1559-contract-creation");
}

#[test]
fn access_list() {
    case("eip1559-access-list");
}

#[test]
fn largest_numbers() {
    case("eip1559-largest-numbers");
}

#[test]
fn exponent() {
    case("eip1559-exponent");
}

#[test]
fn refusals() {
    refused("refused-from-of-another-key");
    refused("refused-legacy-type");
    refused("refused-type-missing");
    refused("refused-19-decimals");
    refused("refused-negative-value");
    refused("refused-value-twice");
    refused("refused-tip-above-max-fee");
    refused("refused-wrong-checksum");
    refused("refused-to-missing");
    refused("refused-creation-without-data");
    refused("refused-nonce-float");
    refused("refused-nonce-2-64");
    refused("refused-unknown-field");
    refused("refused-duplicate-field");
    refused("refused-user-op-hash-short");
    refused("refused-user-op-hash-with-transaction");
}

#[test]
fn every_file_is_a_case() {
    let files = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect::<Vec<_>>();
    for file in &files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(
            include_str!("vectors.rs").contains(&format!("(\"{name}\")")),
            "{name} is not tested"
        );
    }
    assert!(!files.is_empty());
}
