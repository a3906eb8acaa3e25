//! The command line of `cloister-local`.

use std::process::Command;

#[test]
fn a_start_that_fails_prints_its_causes_in_one_line() {
    let output = Command::new(env!("CARGO_BIN_EXE_cloister-local"))
        .args(["up", "--data-dir", "/dev/null/data"])
        .output()
        .unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "failed to make the directory /dev/null/data: Not a directory (os error 20)\n"
    );
}
