//! Byte for byte what other implementations sign, one file per case.

use std::fs;
use std::path::Path;

use cloister_protocol::PrivateKey;
use cloister_protocol::message::Signed;
use cloister_sealing::Capability;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::fixture::Wallet;

/// Signs the case of this name and compares.
fn case(name: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/signing");
    let text = fs::read_to_string(directory.join(name).with_extension("json")).unwrap();
    // The payload's exact text is what is parsed: a JSON value would have rounded its numbers already.
    let exact: std::collections::BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text).unwrap();
    let case: Value = serde_json::from_str(&text).unwrap();

    let key = PrivateKey::from_hex(case["eth_key"].as_str().unwrap()).unwrap();
    let wallet = Wallet::new(key, [Capability::Transaction, Capability::UserOpHash].into_iter().collect());
    assert_eq!(wallet.row.address.to_string().to_lowercase(), case["address"]);
    match wallet.sign(exact["transaction_payload"].get()).unwrap() {
        Signed::Transaction { transaction_signed, transaction_hash } => {
            assert_eq!(transaction_signed, case["transaction_signed"]);
            assert_eq!(transaction_hash, case["transaction_hash"]);
        }
        Signed::Signature { signature } => assert_eq!(signature, case["signature"]),
    }
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
fn every_file_is_a_case() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/signing");
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    for file in &files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(include_str!("vectors.rs").contains(&format!("case(\"{name}\")")), "{name} is not tested");
    }
    assert!(!files.is_empty());
}
