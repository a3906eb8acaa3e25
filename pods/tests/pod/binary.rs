//! The real binaries: configuration from the environment, AWS over TLS, logs, SIGTERM.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use cloister_contract::events;
use serde_json::Value;

use crate::aws::{Aws, Fault};
use crate::enclave::Enclave;
use crate::machine::Machine;
use crate::pod::{
    Addresses, KEY, NAME, addresses, caller, config, eventually, refusal, signed, signed_with,
};

pub(crate) const KEY_GENERATOR_POD: &str = env!("CARGO_BIN_EXE_key-generator-pod");
const SIGNER_POD: &str = env!("CARGO_BIN_EXE_signer-pod");

fn command(binary: &str) -> Command {
    let mut command = Command::new(binary);
    command
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A pod with everything that both need, at the most verbose level.
pub(crate) fn configured(binary: &str, directory: &Path) -> Command {
    let settings = config(directory);
    let mut command = command(binary);
    command
        .env("CLOISTER_LISTEN", "127.0.0.1:0")
        .env("CLOISTER_HEALTH_LISTEN", "127.0.0.1:0")
        .env("CLOISTER_TLS_CERT", settings.tls_cert)
        .env("CLOISTER_TLS_KEY", settings.tls_key)
        .env(
            "CLOISTER_FRONT_DOOR_KEY_FILE",
            settings.front_door_key_file.unwrap(),
        )
        .env("CLOISTER_ENCLAVE", settings.enclave.unwrap().to_string())
        .env(
            "CLOISTER_ENCLAVE_SESSION_FILE",
            settings.enclave_session_file.unwrap(),
        )
        .env("CLOISTER_CMK_ARN", settings.cmk_arn.to_string())
        .env("CLOISTER_EGRESS", settings.egress.to_string())
        .env("CLOISTER_AWS_CA_FILE", directory.join("ca.pem"))
        .env("CLOISTER_ADDRESS_FILE", settings.address_file.unwrap())
        .env("CLOISTER_LOG", "trace")
        .env("AWS_REGION", "eu-central-1");
    command
}

pub(crate) async fn ready(directory: &Path) -> (Addresses, reqwest::Client) {
    let addresses = addresses(&directory.join("addresses.json")).await;
    let client = caller(directory, &addresses).build().unwrap();
    let url = format!("http://{}/readyz", addresses.health);
    eventually(async || (client.get(&url).send().await.ok()?.status() == 200).then_some(())).await;
    (addresses, client)
}

/// Terminates the pod as Kubernetes does, and returns its log.
pub(crate) async fn terminate(child: Child) -> String {
    assert!(
        Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output())
        .await
        .unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = ended.unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(String::from_utf8(stderr).unwrap(), "");
    let log = String::from_utf8(stdout).unwrap();
    check_log(&log);
    log
}

/// Checks that each line is JSON, and that none has a secret.
pub(crate) fn check_log(log: &str) {
    for line in log.lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line)
                .unwrap()
                .is_object(),
            "{line}"
        );
    }
    for secret in [
        "topsecretaccesskey",
        "topsecrettoken",
        "a caller's secret",
        KEY,
        OTHER_KEY,
    ] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn a_key_generator_pod_serves_ends_with_sigterm_and_logs_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let enclave = Enclave::start(directory.path(), "key-generator").await;
    let child = configured(KEY_GENERATOR_POD, directory.path())
        .env("AWS_ACCESS_KEY_ID", "AKIDBINARY")
        .env("AWS_SECRET_ACCESS_KEY", "topsecretaccesskey")
        .env("AWS_SESSION_TOKEN", "topsecrettoken")
        .spawn()
        .unwrap();
    let (_addresses, client) = ready(directory.path()).await;
    assert_eq!(*enclave.mind.configured.lock().unwrap(), ["AKIDBINARY"]);
    let body = r#"{"secret":"a caller's secret of some length"}"#;
    let request = client
        .post(format!("https://{NAME}/v1/generate_key"))
        .body(body);
    let answer = signed(request).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let log = terminate(child).await;
    let request = event(&log, events::REQUEST_ANSWERED);
    assert_eq!(request["operation"], "generate_key");
    assert_eq!(request["code"], "ok");
    assert!(request["enclave_ms"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn a_warm_signature_costs_one_read_no_handshake_and_no_sts_call() {
    let directory = tempfile::tempdir().unwrap();
    let enclave = Enclave::start(directory.path(), "signer").await;
    let mut signer_pod = configured(SIGNER_POD, directory.path());
    let (aws, url) = Aws::start(directory.path()).await;
    let token = directory.path().join("token");
    std::fs::write(&token, "a web identity token").unwrap();
    let child = signer_pod
        .env(
            "CLOISTER_TABLE_ARN",
            "arn:aws:dynamodb:eu-central-1:111122223333:table/rows",
        )
        .env("AWS_ENDPOINT_URL_DYNAMODB", &url)
        .env("AWS_ENDPOINT_URL_STS", &url)
        .env("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/signer")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", token)
        .spawn()
        .unwrap();
    let (_addresses, client) = ready(directory.path()).await;
    assert_eq!(*enclave.mind.configured.lock().unwrap(), ["AKIDFROMSTS"]);
    let sign = async || {
        let url =
            format!("https://{NAME}/v1/sign_transaction/7e99e372-0eba-4001-8002-35e6a1478070");
        let request = signed(client.post(url).body("{}"));
        assert_eq!(request.send().await.unwrap().status(), 200);
    };
    sign().await;
    let before = aws.asked();
    for _ in 0..20 {
        sign().await;
    }
    let after = aws.asked();
    assert_eq!(
        after.operations[before.operations.len()..],
        ["DynamoDB_20120810.GetItem"; 20]
    );
    assert_eq!(after.connections, before.connections);
    let log = terminate(child).await;
    let request = event(&log, events::REQUEST_ANSWERED);
    assert!(request["storage_ms"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn errors_of_the_table_have_a_code_each_and_no_text() {
    let directory = tempfile::tempdir().unwrap();
    let _enclave = Enclave::start(directory.path(), "signer").await;
    let mut signer_pod = configured(SIGNER_POD, directory.path());
    let (aws, url) = Aws::start(directory.path()).await;
    let child = signer_pod
        .env(
            "CLOISTER_TABLE_ARN",
            "arn:aws:dynamodb:eu-central-1:111122223333:table/rows",
        )
        .env("AWS_ENDPOINT_URL_DYNAMODB", &url)
        .env("AWS_ACCESS_KEY_ID", "AKIDBINARY")
        .env("AWS_SECRET_ACCESS_KEY", "topsecretaccesskey")
        .spawn()
        .unwrap();
    let (_addresses, client) = ready(directory.path()).await;
    let json = r#"{"message":"words of AWS with topsecrettoken"}"#;
    let html = "<html>words of AWS with topsecrettoken</html>";
    for (status, code, body, expected) in [
        (
            403,
            Some("RequestTimeTooSkewed"),
            json,
            "storage_unavailable",
        ),
        (
            400,
            Some("ExpiredTokenException"),
            json,
            "storage_unavailable",
        ),
        (
            400,
            Some("InvalidSignatureException"),
            json,
            "storage_unavailable",
        ),
        (400, Some("ThrottlingException"), json, "storage_throttled"),
        (429, None, "", "storage_throttled"),
        (429, None, html, "storage_throttled"),
        (503, None, html, "storage_unavailable"),
        (200, None, html, "storage_unavailable"),
    ] {
        aws.fail(Some(Fault { status, code, body }));
        let request = client
            .post(format!(
                "https://{NAME}/v1/sign_transaction/7e99e372-0eba-4001-8002-35e6a1478070"
            ))
            .body("{}");
        let answer = signed(request).send().await.unwrap();
        assert_eq!(answer.status(), 503, "{status} {code:?}");
        assert_eq!(answer.headers()["retry-after"], "1");
        let text = answer.text().await.unwrap();
        let rejection: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(rejection["code"], expected, "{status} {code:?}");
        assert!(!text.contains("AWS"), "{text}");
    }
    aws.fail(None);
    let log = terminate(child).await;
    assert!(!log.contains("words of AWS"), "{log}");
    let failures: BTreeSet<_> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["event"] == events::DYNAMODB_CALL_FAILED)
        .map(|line| line["failure"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        failures.iter().map(String::as_str).collect::<Vec<_>>(),
        [
            "clock_skewed",
            "credentials_expired",
            "not_a_reply",
            "refused",
            "throttled",
            "unavailable"
        ]
    );
}

#[tokio::test]
async fn an_error_of_sts_is_logged_by_its_code_only() {
    let directory = tempfile::tempdir().unwrap();
    let _enclave = Enclave::start(directory.path(), "key-generator").await;
    let mut pod = configured(KEY_GENERATOR_POD, directory.path());
    let (aws, url) = Aws::start(directory.path()).await;
    aws.fail(Some(Fault {
        status: 400,
        code: None,
        body: "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code>\
            <Message>words of AWS with topsecrettoken</Message></Error></ErrorResponse>",
    }));
    let token = directory.path().join("token");
    std::fs::write(&token, "a web identity token").unwrap();
    let child = pod
        .env("AWS_ENDPOINT_URL_STS", &url)
        .env("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/generator")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", token)
        .spawn()
        .unwrap();
    let health = addresses(&directory.path().join("addresses.json"))
        .await
        .health;
    eventually(async || {
        let url = format!("http://{health}/readyz");
        let body = reqwest::get(url).await.ok()?.text().await.ok()?;
        body.contains("no AWS credentials").then_some(())
    })
    .await;
    let log = terminate(child).await;
    let line = event(&log, events::ENCLAVE_NOT_READY);
    let cause = line["cause"].as_str().unwrap();
    assert!(
        cause.ends_with("service error: ExpiredTokenException"),
        "{cause}"
    );
    assert!(!log.contains("words of AWS"), "{log}");
}

/// The pod starts before Secrets Manager answers, and follows two replacements of the key.
#[tokio::test]
async fn keys_of_a_secret_are_read_and_followed() {
    let directory = tempfile::tempdir().unwrap();
    let _enclave = Enclave::start(directory.path(), "key-generator").await;
    let mut pod = configured(KEY_GENERATOR_POD, directory.path());
    // Not a pipe: the requests' lines would fill it before somebody reads.
    let log_file = directory.path().join("log");
    let (aws, url) = Aws::start(directory.path()).await;
    let fault = Fault {
        status: 400,
        code: Some("AccessDeniedException"),
        body: r#"{"message":"words of AWS with topsecrettoken"}"#,
    };
    aws.fail(Some(fault));
    aws.set_secret(&[("AWSCURRENT", "v1", KEY)]);
    let child = pod
        .env_remove("CLOISTER_FRONT_DOOR_KEY_FILE")
        .env(
            "CLOISTER_FRONT_DOOR_SECRET",
            "arn:aws:secretsmanager:eu-central-1:111122223333:secret:front-door-AbCdEf",
        )
        .env("CLOISTER_FRONT_DOOR_SECRET_SECONDS", "1")
        .stdout(std::fs::File::create(&log_file).unwrap())
        .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", &url)
        .env("AWS_ACCESS_KEY_ID", "AKIDBINARY")
        .env("AWS_SECRET_ACCESS_KEY", "topsecretaccesskey")
        .spawn()
        .unwrap();
    let addresses = addresses(&directory.path().join("addresses.json")).await;
    let client = caller(directory.path(), &addresses).build().unwrap();
    let plain = format!("http://{}/readyz", addresses.health);
    let create = |key: &str| {
        let request = client.post(format!("https://{NAME}/v1/generate_key"));
        signed_with(request.body("{}"), key, 0)
    };
    let status = async |key| create(key).send().await.unwrap().status().as_u16();

    // Without a key nothing is answered, whoever asks, and the pod is not ready.
    eventually(async || {
        let response = client.get(&plain).send().await.ok()?;
        let said = response.text().await.ok()?;
        said.contains("the front door's key has not been read")
            .then_some(())
    })
    .await;
    assert_eq!(refusal(create(KEY)).await, (503, "not_ready".to_owned()));

    aws.fail(None);
    eventually(async || (status(KEY).await == 200).then_some(())).await;
    eventually(async || (client.get(&plain).send().await.ok()?.status() == 200).then_some(()))
        .await;
    assert_eq!(status(OTHER_KEY).await, 401);

    // A new version: the old one is accepted at every moment, until its label is removed.
    aws.set_secret(&[("AWSCURRENT", "v2", OTHER_KEY), ("AWSPREVIOUS", "v1", KEY)]);
    eventually(async || {
        assert_eq!(status(KEY).await, 200);
        (status(OTHER_KEY).await == 200).then_some(())
    })
    .await;
    aws.set_secret(&[("AWSCURRENT", "v2", OTHER_KEY)]);
    eventually(async || {
        assert_eq!(status(OTHER_KEY).await, 200);
        (status(KEY).await == 401).then_some(())
    })
    .await;

    // What cannot be read or used changes nothing.
    let reads = aws.asked().operations.len();
    aws.set_secret(&[("AWSCURRENT", "v3", "not a key")]);
    eventually(async || (aws.asked().operations.len() > reads + 1).then_some(())).await;
    assert_eq!(status(OTHER_KEY).await, 200);
    let reads = aws.asked().operations.len();
    aws.fail(Some(fault));
    eventually(async || (aws.asked().operations.len() > reads).then_some(())).await;
    assert_eq!((status(OTHER_KEY).await, status(KEY).await), (200, 401));

    terminate(child).await;
    let log = std::fs::read_to_string(&log_file).unwrap();
    check_log(&log);
    assert!(
        !log.contains("words of AWS") && !log.contains("not a key"),
        "{log}"
    );
    let of = |name| {
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["event"] == name)
            .collect::<Vec<_>>()
    };
    let versions: Vec<_> = of(events::FRONT_DOOR_KEYS_READ)
        .iter()
        .map(|line| (line["current"].clone(), line["previous"].clone()))
        .collect();
    assert_eq!(
        versions,
        [
            ("v1".into(), Value::Null),
            ("v2".into(), "v1".into()),
            ("v2".into(), Value::Null)
        ]
    );
    let not_read = of(events::FRONT_DOOR_KEYS_NOT_READ);
    assert!(
        not_read
            .iter()
            .any(|line| line["code"] == "AccessDeniedException"),
        "{log}"
    );
    assert!(not_read.iter().any(|line| line["version"] == "v3"), "{log}");
    let refused = of(events::NOT_FROM_FRONT_DOOR);
    assert!(
        refused.iter().all(|line| line["reason"] == "wrong_mac"),
        "{log}"
    );
    assert!(!refused.is_empty());
}

/// Another key of the front door.
const OTHER_KEY: &str = "00112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f";

/// The first line with this event.
fn event(log: &str, name: &str) -> Value {
    log.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|line| line["event"] == name)
        .unwrap_or_else(|| panic!("no {name}: {log}"))
}

#[tokio::test]
async fn an_error_is_logged_with_its_cause() {
    for binary in [KEY_GENERATOR_POD, SIGNER_POD] {
        let directory = tempfile::tempdir().unwrap();
        let mut pod = configured(binary, directory.path());
        pod.env("CLOISTER_TLS_CERT", "/nonexistent/cert.pem").env(
            "CLOISTER_TABLE_ARN",
            "arn:aws:dynamodb:eu-central-1:111122223333:table/rows",
        );
        let output = tokio::task::spawn_blocking(move || pod.output())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let log = String::from_utf8(output.stdout).unwrap();
        let missing = std::fs::read("/nonexistent/cert.pem").unwrap_err();
        assert_eq!(
            event(&log, events::PROGRAM_FAILED)["error"],
            format!("failed to read /nonexistent/cert.pem: {missing}")
        );
    }
}

/// A key generator's pod that runs its enclave itself.
fn managing(machine: &Machine) -> Command {
    machine.write_measurements("key-generator");
    let mut command = configured(KEY_GENERATOR_POD, machine.directory.path());
    command
        .env_remove("CLOISTER_ENCLAVE")
        .env_remove("CLOISTER_ENCLAVE_SESSION_FILE")
        .env("CLOISTER_ENCLAVE_IMAGE", machine.path("signer.eif"))
        .env(
            "CLOISTER_ENCLAVE_MEASUREMENTS",
            machine.path("measurements.json"),
        )
        .env("CLOISTER_ENCLAVE_CPUS", "2")
        .env("CLOISTER_ENCLAVE_MEMORY_MIB", "128")
        .env("CLOISTER_NITRO_CLI", machine.path("nitro-cli"));
    command
}

/// Waits for an enclave that is not `other`; returns its id.
async fn enclave_but(machine: &Machine, other: &str) -> String {
    eventually(async || machine.enclaves().into_iter().find(|id| id != other)).await
}

#[tokio::test]
async fn a_killed_pod_leaves_an_enclave_that_the_next_pod_terminates() {
    let machine = Machine::new();
    let mut killed = managing(&machine).spawn().unwrap();
    let left = enclave_but(&machine, "").await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(machine.enclaves(), [left.as_str()]);

    let child = managing(&machine)
        .env("CLOISTER_ENCLAVE_DEBUG", "true")
        .spawn()
        .unwrap();
    let successor = enclave_but(&machine, &left).await;
    assert_eq!(machine.enclaves(), [successor.as_str()], "exactly one runs");
    let calls = machine.calls();
    let ended = calls
        .iter()
        .position(|call| *call == format!("terminate-enclave --enclave-id {left}"))
        .unwrap();
    let started = calls
        .iter()
        .rposition(|call| call.starts_with("run-enclave "))
        .unwrap();
    assert!(ended < started, "{calls:?}");
    assert!(
        calls[started].ends_with(" --enclave-name cloister-key-generator --debug-mode"),
        "{calls:?}"
    );

    eventually(async || (machine.count("console") == 1).then_some(())).await;
    let log = terminate(child).await;
    assert_eq!(machine.enclaves(), [] as [&str; 0], "SIGTERM terminates it");
    for name in [
        events::STALE_ENCLAVE,
        events::ENCLAVE_BOOTED,
        events::ENCLAVE_TERMINATED,
    ] {
        event(&log, name);
    }
}

#[tokio::test]
async fn the_console_of_a_debug_enclave_is_in_the_log() {
    let machine = Machine::new();
    let mut child = managing(&machine)
        .env("CLOISTER_ENCLAVE_DEBUG", "true")
        .spawn()
        .unwrap();
    let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let said = tokio::task::spawn_blocking(|| {
        let mut lines = std::io::BufRead::lines(stdout).map(Result::unwrap);
        lines
            .find(|line| line.contains(r#""console":"[    0.000000] Linux version"#))
            .is_some()
    });
    assert!(said.await.unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn missing_options_are_named() {
    for (binary, option) in [(KEY_GENERATOR_POD, "--egress"), (SIGNER_POD, "--table-arn")] {
        let output = tokio::task::spawn_blocking(|| command(binary).output())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        for option in [
            "--tls-cert",
            "--tls-key",
            "--front-door-key-file",
            "--enclave",
            "--cmk-arn",
            "--region",
            option,
        ] {
            assert!(said.contains(option), "{said}");
        }
    }
}
