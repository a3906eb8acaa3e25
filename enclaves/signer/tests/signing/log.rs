//! The program's own log.

use std::process::Command;

/// Outside an enclave there are no measured settings, so that the program ends with an error that
/// has a cause.
#[test]
fn an_error_is_logged_with_its_cause() {
    let ended = Command::new(env!("CARGO_BIN_EXE_cloister-signer"))
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let line: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(line["event"], "program_failed");
    assert_eq!(line["level"], "ERROR");
    assert_eq!(
        line["error"],
        "failed to read /settings.json: No such file or directory (os error 2)"
    );
}
