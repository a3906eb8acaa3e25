//! Every command of a dry run, against files: their difference belongs to the review.
//! `UPDATE_TRANSCRIPTS=1 cargo test -p cloister-aws --test transcripts` writes them.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

#[test]
fn up() {
    compare("up", &["up", "--account", ACCOUNT, "--region", REGION], &[]);
}

#[test]
fn up_with_variables_on_ecs() {
    let variables = [
        ("CDK_DEPLOY_ACCOUNT", ACCOUNT),
        ("CDK_DEPLOY_REGION", REGION),
        ("CDK_PREFIX", ""),
        ("CDK_TARGET_ARCHITECTURE", "linux/arm64"),
        ("CDK_VARIANT", "ecs"),
        ("CDK_RESOURCE_TAGS", "owner=a team,stage=it's"),
    ];
    compare("up-ecs", &["up", "--no-rollback"], &variables);
}

#[test]
fn up_with_two_releases() {
    let variables = [
        ("CDK_IMAGES", "/releases/present"),
        ("CDK_NEXT_IMAGES", "/releases/next"),
        ("CDK_NEXT_UNTIL", "2027-01-31"),
    ];
    let arguments = ["up", "--account", ACCOUNT, "--region", REGION];
    compare("up-next", &arguments, &variables);
}

#[test]
fn down() {
    compare(
        "down",
        &["down", "--account", ACCOUNT, "--region", REGION],
        &[],
    );
}

#[test]
fn down_with_keys() {
    let arguments = [
        "down",
        "--account",
        ACCOUNT,
        "--region",
        REGION,
        "--with-keys",
    ];
    compare("down-with-keys", &arguments, &[]);
}

#[test]
fn check() {
    let arguments = [
        "check",
        "--account",
        ACCOUNT,
        "--region",
        REGION,
        "--destructive",
    ];
    compare("check", &arguments, &[]);
}

/// Runs the program where no other program can be found, so that it can only print.
fn compare(name: &str, arguments: &[&str], variables: &[(&str, &str)]) {
    let output = Command::new(env!("CARGO_BIN_EXE_cloister-aws"))
        .args(arguments)
        .arg("--dry-run")
        .env_clear()
        .env("PATH", "/nonexistent")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let transcript = String::from_utf8(output.stdout).unwrap();
    assert_is_shell(&transcript);

    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/transcripts")
        .join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        std::fs::write(&file, &transcript).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(transcript, expected, "{}", file.display());
}

/// The lines can be pasted: a shell parses them.
fn assert_is_shell(transcript: &str) {
    let mut shell = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, transcript.as_bytes()).unwrap();
    drop(stdin);
    let output = shell.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-central-1";
