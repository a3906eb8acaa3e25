//! The probe of the key: what the pod asks KMS, and its line for each answer.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};

use cloister_contract::events;
use serde_json::{Value, json};

use crate::aws::{Aws, Fault};
use crate::binary::{KEY_GENERATOR_POD, check_log, configured, ready, terminate};
use crate::enclave::Enclave;
use crate::pod::{NAME, eventually, signed};

const DENIED: Answer = refusal(400, "AccessDeniedException", "INFO", events::KEY_DENIED);
const ANSWERS: [Answer; 6] = [
    DENIED,
    refusal(
        412,
        "DryRunOperationException",
        "ERROR",
        events::KEY_RELEASED,
    ),
    refusal(400, "ThrottlingException", "WARN", events::KEY_NOT_PROBED),
    Answer {
        fault: Fault {
            status: 200,
            code: None,
            body: r#"{"KeyId":"1234abcd","CiphertextBlob":"AQID","Plaintext":"dG9wc2VjcmV0a2V5"}"#,
        },
        line: ("ERROR", events::KEY_RELEASED),
    },
    refusal(400, "DisabledException", "WARN", events::KEY_NOT_PROBED),
    DENIED,
];

const fn refusal(
    status: u16,
    code: &'static str,
    level: &'static str,
    event: &'static str,
) -> Answer {
    Answer {
        fault: Fault {
            status,
            code: Some(code),
            body: r#"{"message":"words of AWS"}"#,
        },
        line: (level, event),
    }
}

/// An answer of KMS, and level and event of the pod's line.
#[derive(Clone, Copy)]
struct Answer {
    fault: Fault,
    line: (&'static str, &'static str),
}

/// A pod that probes the key about once a second.
fn probing(mut configured: Command, directory: &Path, kms: &str) -> Child {
    configured
        .env("CLOISTER_KEY_PROBE_SECONDS", "1")
        .env("AWS_ENDPOINT_URL_KMS", kms)
        .env("AWS_ACCESS_KEY_ID", "AKIDBINARY")
        .env("AWS_SECRET_ACCESS_KEY", "topsecretaccesskey")
        // Not a pipe, which would be full before somebody reads.
        .stdout(File::create(directory.join("log")).unwrap())
        .spawn()
        .unwrap()
}

/// Level and event of the probe's lines, without repetitions.
fn lines(directory: &Path) -> Vec<(String, String)> {
    let log = std::fs::read_to_string(directory.join("log")).unwrap();
    let text = |line: &Value, member| line[member].as_str().unwrap_or_default().to_owned();
    let mut lines: Vec<_> = log
        .lines()
        // The last line may not be complete yet.
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|line| (text(&line, "level"), text(&line, "event")))
        .filter(|(_, event)| event.starts_with("key_"))
        .collect();
    lines.dedup();
    lines
}

#[tokio::test]
async fn each_answer_has_its_line_and_the_pod_serves_on() {
    let directory = tempfile::tempdir().unwrap();
    let _enclave = Enclave::start(directory.path(), "key-generator").await;
    let configured = configured(KEY_GENERATOR_POD, directory.path());
    let (aws, url) = Aws::start(directory.path()).await;
    aws.fail(Some(DENIED.fault));
    let child = probing(configured, directory.path(), &url);
    let (addresses, client) = ready(directory.path()).await;
    for (number, answer) in ANSWERS.into_iter().enumerate() {
        aws.fail(Some(answer.fault));
        eventually(async || (lines(directory.path()).len() == number + 1).then_some(())).await;
        let readiness = client.get(format!("http://{}/readyz", addresses.health));
        assert_eq!(readiness.send().await.unwrap().status(), 200);
        let create = client.post(format!("https://{NAME}/v1/generate_key"));
        let created = signed(create.body("{}")).send().await.unwrap();
        assert_eq!(created.status(), 200);
    }
    terminate(child).await;
    assert_eq!(
        lines(directory.path()),
        ANSWERS.map(|Answer { line, .. }| (line.0.to_owned(), line.1.to_owned()))
    );
    for asked in aws.asked().data_keys {
        let expected = json!({
            "KeyId": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd",
            "KeySpec": "AES_256",
            "EncryptionContext": { "purpose": "wallet" },
            "DryRun": true,
        });
        assert_eq!(asked, expected);
    }
    let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
    check_log(&log);
    for said in ["words of AWS", "dG9wc2VjcmV0a2V5", "topsecretkey"] {
        assert!(!log.contains(said), "{log}");
    }
}

#[tokio::test]
async fn a_kms_that_does_not_answer_is_no_denial() {
    let directory = tempfile::tempdir().unwrap();
    let _enclave = Enclave::start(directory.path(), "key-generator").await;
    // Connections are made, and nobody reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let configured = configured(KEY_GENERATOR_POD, directory.path());
    let child = probing(configured, directory.path(), &url);
    ready(directory.path()).await;
    eventually(async || (!lines(directory.path()).is_empty()).then_some(())).await;
    terminate(child).await;
    let expected = ("WARN".to_owned(), events::KEY_NOT_PROBED.to_owned());
    assert_eq!(lines(directory.path()), [expected]);
}
