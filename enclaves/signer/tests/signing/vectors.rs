//! Signatures and refusals of other implementations, byte for byte: one file per case.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloister_protocol::message::Signed;
use cloister_protocol::{PrivateKey, Rejection};
use cloister_sealing::Capability;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::fixture::Wallet;

#[test]
fn every_vector_holds() {
    let files = fs::read_dir(directory()).unwrap();
    let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    let problems: Vec<_> = files.iter().flat_map(|file| problems(file)).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(files.len() >= 24, "vectors are missing: {files:?}");
}

/// Compares every member of the result, or the code and, where the case has one, the field.
fn problems(file: &Path) -> Vec<String> {
    let (case, outcome) = sign(file);
    let actual = match &outcome {
        Ok(signed) => serde_json::to_value(signed).unwrap(),
        Err(rejection) => json!({ "code": rejection.code, "field": rejection.field }),
    };
    let members = [
        "transaction_signed",
        "transaction_hash",
        "signature",
        "code",
    ];
    let members = members
        .into_iter()
        .chain(case.get("field").map(|_| "field"));
    members
        .filter(|member| case[member] != actual[member])
        .map(|member| format!("{}: {member} is {}", file.display(), actual[member]))
        .collect()
}

fn sign(file: &Path) -> (Value, Result<Signed, Rejection>) {
    let text = fs::read_to_string(file).unwrap();
    // The payload's exact text is signed: a JSON value would have rounded its numbers already.
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
