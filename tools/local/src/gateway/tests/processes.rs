//! The processes of the function: what they are given, that they are kept running, and that they
//! end with the gateway.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::setup::{REGION, callers, until};
use crate::gateway::{Function, Gateway, Limits, Options};

/// A gateway whose function is a shell script.
async fn start(directory: &Path, script: &str, workers: usize) -> Gateway {
    let program: PathBuf = directory.join("front-door");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let variables = vec![(
        "OUT".to_owned(),
        directory.join("out").to_str().unwrap().to_owned(),
    )];
    let function = Function {
        name: "front-door".into(),
        program,
        variables,
        workers,
    };
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let file = callers();
    Gateway::start(Options {
        listen,
        callers: file.to_path_buf(),
        region: REGION.into(),
        account: "111122223333".into(),
        function,
        limits: Limits::default(),
    })
    .await
    .unwrap()
}

fn lines(directory: &Path) -> Vec<String> {
    fs::read_to_string(directory.join("out"))
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn runs(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

#[tokio::test]
async fn processes_get_the_environment_of_lambda_and_nothing_of_ours() {
    let directory = TempDir::new().unwrap();
    let gateway = start(
        directory.path(),
        "env > $OUT.tmp; mv $OUT.tmp $OUT; exec sleep 1000",
        1,
    )
    .await;
    let environment = until("the process starts", async || {
        Some(lines(directory.path())).filter(|l| !l.is_empty())
    })
    .await;
    gateway.stop().await;
    for expected in [
        "AWS_LAMBDA_FUNCTION_NAME=front-door",
        "AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
        "AWS_REGION=eu-central-1",
    ] {
        assert!(
            environment.iter().any(|line| line == expected),
            "{expected} in {environment:?}"
        );
    }
    assert!(
        environment
            .iter()
            .any(|line| line.starts_with("AWS_LAMBDA_RUNTIME_API=127.0.0.1:"))
    );
    assert!(
        !environment
            .iter()
            .any(|line| line.starts_with("CARGO") || line.starts_with("HOME=")),
        "{environment:?}"
    );
}

#[tokio::test]
async fn processes_that_end_are_started_again() {
    let directory = TempDir::new().unwrap();
    let gateway = start(directory.path(), "echo $$ >> $OUT; exit 1", 1).await;
    let pids = until("three starts", async || {
        Some(lines(directory.path())).filter(|lines| lines.len() >= 3)
    })
    .await;
    gateway.stop().await;
    assert!(pids[0] != pids[1] && pids[1] != pids[2]);
}

#[tokio::test]
async fn processes_end_with_the_gateway() {
    let directory = TempDir::new().unwrap();
    // One that does not notice that its Runtime API is gone.
    let gateway = start(directory.path(), "echo $$ >> $OUT; exec sleep 1000", 3).await;
    let pids = until("three processes", async || {
        Some(lines(directory.path())).filter(|lines| lines.len() == 3)
    })
    .await;
    assert!(pids.iter().all(|pid| runs(pid)));
    tokio::time::timeout(Duration::from_secs(20), gateway.stop())
        .await
        .unwrap();
    assert!(!pids.iter().any(|pid| runs(pid)));
}

#[tokio::test]
async fn processes_end_when_the_gateway_is_dropped() {
    let directory = TempDir::new().unwrap();
    let runtime = std::thread::spawn({
        let directory = directory.path().to_owned();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let _gateway = start(&directory, "echo $$ >> $OUT; exec sleep 1000", 1).await;
                until("the process", async || lines(&directory).pop()).await
            })
        }
    });
    let pid = runtime.join().unwrap();
    until("the process ends", async || (!runs(&pid)).then_some(())).await;
}

#[tokio::test]
async fn a_function_that_does_not_exist_does_not_end_the_gateway() {
    let directory = TempDir::new().unwrap();
    let function = Function {
        name: "front-door".into(),
        program: directory.path().join("nowhere"),
        variables: Vec::new(),
        workers: 1,
    };
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let file = callers();
    let limits = Limits {
        integration: Duration::from_millis(200),
        ..Limits::default()
    };
    let gateway = Gateway::start(Options {
        listen,
        callers: file.to_path_buf(),
        region: REGION.into(),
        account: "111122223333".into(),
        function,
        limits,
    })
    .await
    .unwrap();
    let endpoint = format!("http://{}", gateway.address());
    let credentials =
        cloister_client::Credentials::new("AKIALONGLIVED", super::setup::SECRET, None);
    let client = cloister_client::Client::new(&endpoint, REGION, credentials, None).unwrap();
    assert_eq!(client.get("/version").await.unwrap().status, 504);
    gateway.stop().await;
}
