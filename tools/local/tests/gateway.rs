//! The gateway's binary: its address file, its answer, its end.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cloister_contract::events;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A gateway process with a shell script for a function, which notes its process id.
fn start(directory: &Path) -> Child {
    let function = directory.join("function");
    fs::write(
        &function,
        "#!/bin/sh\necho $$ > $OUT.new; mv $OUT.new $OUT; exec sleep 1000\n",
    )
    .unwrap();
    fs::set_permissions(&function, fs::Permissions::from_mode(0o700)).unwrap();
    let callers = json!({ "principals": [{
        "access_key_id": "AKIDEXAMPLE", "secret_access_key": SECRET, "session_token": "the-session-token",
        "principal_arn": "arn:aws:iam::111122223333:role/caller"
    }] });
    fs::write(directory.join("callers.json"), callers.to_string()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_cloister-local-gateway"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--region",
            "eu-central-1",
            "--workers",
            "1",
        ])
        .arg("--address-file")
        .arg(directory.join("address.json"))
        .arg("--callers")
        .arg(directory.join("callers.json"))
        .arg("--function")
        .arg(function)
        .arg("--function-env")
        .arg(format!("OUT={}", directory.join("pid").display()))
        .env("RUST_LOG", "trace")
        .stdout(fs::File::create(directory.join("log")).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until `condition` succeeds.
fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn the_gateway_tells_its_address_and_ends_with_its_workers() {
    let directory = TempDir::new().unwrap();
    let mut gateway = start(directory.path());
    let address = until("the address", || {
        fs::read(directory.path().join("address.json")).ok()
    });
    let address: Value = serde_json::from_slice(&address).unwrap();
    let address: SocketAddr = address["http"].as_str().unwrap().parse().unwrap();
    let worker = until("the worker", || {
        fs::read_to_string(directory.path().join("pid")).ok()
    });
    let worker = Path::new("/proc").join(worker.trim());
    assert!(worker.exists());

    let credentials =
        cloister_client::Credentials::new("AKIDEXAMPLE", SECRET, Some("another-session-token"));
    let client = cloister_client::Client::new(
        &format!("http://{address}"),
        "eu-central-1",
        credentials,
        None,
    )
    .unwrap();
    assert_eq!(client.get("/version").await.unwrap().status, 403);

    kill_process(Pid::from_child(&gateway), Signal::TERM).unwrap();
    let status = until("the gateway ends", || gateway.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert!(!worker.exists());

    // Not even a trace of what was signed.
    let log = fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(log.contains(r#""event":"request_answered""#), "{log}");
    for hidden in [SECRET, "the-session-token", "another-session-token"] {
        assert!(!log.contains(hidden), "{log}");
    }
}

#[test]
fn a_start_that_fails_is_logged_with_its_causes() {
    let directory = TempDir::new().unwrap();
    let callers = directory.path().join("callers.json");
    let principal = json!({
        "access_key_id": "AKIDEXAMPLE", "secret_access_key": SECRET, "principal_arn": "nobody"
    });
    fs::write(&callers, json!({ "principals": [principal] }).to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cloister-local-gateway"))
        .args(["--region", "eu-central-1", "--function", "/nowhere"])
        .arg("--callers")
        .arg(&callers)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["event"], events::PROGRAM_FAILED);
    assert_eq!(
        line["error"],
        format!(
            "{}: principal 0 is invalid: the ARN is not that of an IAM role or user",
            callers.display()
        )
    );
    assert!(!String::from_utf8_lossy(&output.stdout).contains(SECRET));
}
