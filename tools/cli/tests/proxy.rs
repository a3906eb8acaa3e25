//! The program sends requests through the proxy that the environment names.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;

/// A proxy that refuses its first request; returns its port and the request line.
fn proxy() -> (u16, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let first = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        stream
            .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        line
    });
    (port, first)
}

fn cloister(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloister"))
        .args(arguments)
        .env_clear()
        .envs([
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI+K7MDENG"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_CONFIG_FILE", "/nowhere"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"),
            ("CLOISTER_SECRET", "a secret of some length"),
        ])
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

const ENDPOINT: &str = "https://wallet.example/prod";
const CONNECT: &str = "CONNECT wallet.example:443 HTTP/1.1\r\n";

#[test]
fn requests_of_the_api_go_through_the_proxy() {
    let (port, first) = proxy();
    let proxy = format!("http://user:password@127.0.0.1:{port}");
    let generate = ["key", "generate", "--endpoint", ENDPOINT, "--json"];
    let output = cloister(&generate, &[("HTTPS_PROXY", &proxy)]);
    assert_eq!(first.join().unwrap(), CONNECT);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let failure: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(failure["kind"], "no_answer");
    assert!(!failure.to_string().contains("password"), "{failure}");
}

#[test]
fn requests_of_kms_go_through_the_proxy() {
    let (port, first) = proxy();
    let proxy = format!("http://127.0.0.1:{port}");
    // STS is the first call of a rehearsal.
    let output = cloister(
        &["kms", "rehearse", "--json"],
        &[
            ("HTTPS_PROXY", &proxy),
            ("AWS_ENDPOINT_URL_STS", "https://sts.example"),
        ],
    );
    assert_eq!(
        first.join().unwrap(),
        "CONNECT sts.example:443 HTTP/1.1\r\n"
    );
    assert_eq!(output.status.code(), Some(7), "{output:?}");
}

#[test]
fn doctor_shows_the_proxy_without_its_credentials() {
    let (port, first) = proxy();
    let proxy = format!("http://user:password@127.0.0.1:{port}");
    let output = cloister(
        &["doctor", "--endpoint", ENDPOINT],
        &[
            ("HTTPS_PROXY", &proxy),
            ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1"),
        ],
    );
    assert_eq!(first.join().unwrap(), CONNECT);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    let line = text.lines().find(|line| line.contains("proxy")).unwrap();
    assert!(
        line.starts_with("ok") && line.contains(&format!("127.0.0.1 port {port}")),
        "{text}"
    );
    assert!(!text.contains("password"), "{text}");
}

/// A loopback endpoint is reached directly: the proxy never sees the request.
#[test]
fn this_machine_is_reached_without_the_proxy() {
    let (endpoint, first) = proxy();
    let output = cloister(
        &[
            "key",
            "generate",
            "--endpoint",
            &format!("http://127.0.0.1:{endpoint}/prod"),
        ],
        &[
            ("HTTP_PROXY", "http://127.0.0.1:1"),
            ("ALL_PROXY", "http://127.0.0.1:1"),
        ],
    );
    assert_eq!(
        first.join().unwrap(),
        "POST /prod/generate_key HTTP/1.1\r\n"
    );
    assert_eq!(output.status.code(), Some(8), "{output:?}");
}
