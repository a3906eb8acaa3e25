//! The table's binary.

use std::process::Command;

use cloister_contract::events;
use serde_json::Value;

#[test]
fn a_start_that_fails_is_logged_with_its_causes() {
    let output = Command::new(env!("CARGO_BIN_EXE_cloister-local-table"))
        .args(["--region", "eu-central-1", "--table-arn", "arn"])
        .args(["--dynalite", "/nowhere", "--principals", "/nowhere"])
        .args(["--tls-cert", "/nowhere", "--tls-key", "/nowhere"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["event"], events::PROGRAM_FAILED);
    assert_eq!(
        line["error"],
        "failed to read or write /nowhere: No such file or directory (os error 2)"
    );
}
