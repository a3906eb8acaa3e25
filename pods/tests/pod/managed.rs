//! Pods that run their enclave themselves.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cloister_contract::enclave_log::{End, InitEvent, InitLine};
use cloister_contract::{ErrorChain, events};
use cloister_pods::{EnclaveConfig, PodError, Signer};
use cloister_protocol::frame::Purpose;
use cloister_protocol::limits::REQUEST_DEADLINE;
use cloister_protocol::message::Request;
use cloister_protocol::{Code, Operation};
use cloister_transport::{Client, TransportError};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::enclave::{address, strange};
use crate::machine::{FakeDriver, Handle, Machine, image};
use crate::pod::{Pod, eventually, refusal};
use crate::rows::Rows;

const KEY: &str = "7e99e372-0eba-4001-8002-35e6a1478070";
const SIGN: &str = "/v1/sign_transaction/7e99e372-0eba-4001-8002-35e6a1478070";

async fn start(machine: &Machine) -> (Pod, Handle) {
    let (driver, handle) = FakeDriver::on(machine);
    (start_with(machine, driver).await, handle)
}

async fn start_with(machine: &Machine, driver: FakeDriver) -> Pod {
    let rows = Rows::with_canary();
    rows.insert(KEY.parse().unwrap());
    let signer = Signer::new(rows);
    Pod::start_managed(&machine.directory, signer, machine.config(), driver).await
}

/// Waits until `/readyz` reports a reason with this part.
async fn reason(pod: &Pod, part: &str) -> String {
    eventually(async || {
        let (status, body) = pod.health("/readyz").await;
        (status == 503 && body.contains(part)).then_some(body)
    })
    .await
}

#[tokio::test]
async fn the_enclave_is_started_serves_and_is_terminated_after_the_last_answer() {
    let machine = Machine::new();
    machine.leave("i-0-encstale", "cloister-signer", 90);
    let (pod, handle) = start(&machine).await;
    pod.becomes(true).await;
    assert_eq!(pod.post(SIGN, "{}").send().await.unwrap().status(), 200);
    let commands = |calls: Vec<String>| {
        calls
            .iter()
            .map(|call| call.split(' ').next().unwrap().to_owned())
            .collect()
    };
    let calls: Vec<String> = commands(machine.calls());
    assert_eq!(
        calls[..3],
        ["describe-enclaves", "terminate-enclave", "run-enclave"],
        "stale enclaves are terminated first"
    );

    let mind = handle.mind();
    mind.close_gate();
    let request = pod.post(SIGN, "{}");
    let answer = tokio::spawn(async move { request.send().await.unwrap().status() });
    eventually(async || (mind.begun.load(Ordering::SeqCst) == 2).then_some(())).await;
    pod.shutdown.cancel();
    pod.becomes(false).await;
    assert_eq!(
        (machine.enclaves().len(), machine.count("terminate-enclave")),
        (1, 1),
        "a request is in flight"
    );
    mind.open_gate();
    assert_eq!(answer.await.unwrap(), 200);
    pod.stop().await;
    assert_eq!(
        (machine.enclaves().len(), machine.count("terminate-enclave")),
        (0, 2)
    );
}

#[tokio::test]
async fn a_crash_is_answered_as_retryable_and_the_enclave_is_restarted() {
    let machine = Machine::new();
    let (pod, handle) = start(&machine).await;
    for starts in 1..=2 {
        pod.becomes(true).await;
        assert_eq!(machine.count("run-enclave"), starts);
        let mind = handle.mind();
        assert_eq!(
            *mind.configured.lock().unwrap(),
            ["AKIDFIRST"],
            "each enclave gets credentials"
        );
        mind.close_gate();
        let request = pod.post(SIGN, "{}");
        let answer = tokio::spawn(refusal(request));
        eventually(async || (mind.begun.load(Ordering::SeqCst) == 1).then_some(())).await;
        let end = InitEvent::EnclaveEnded(End::ApplicationExited { status: 101 });
        let line = InitLine::new("2026-01-01T00:00:00Z".to_owned(), end);
        handle.say(&serde_json::to_string(&line).unwrap());
        let crashed = Instant::now();
        drop(handle.crash(&machine).await);
        assert_eq!(
            answer.await.unwrap(),
            (503, "enclave_unavailable".to_owned())
        );
        reason(&pod, "application_exited (status 101)").await;
        let response = pod.post(SIGN, "{}").send().await.unwrap();
        assert_eq!(
            (
                response.status().as_u16(),
                &response.headers()["retry-after"]
            ),
            (503, &"1".parse().unwrap())
        );
        assert!(
            crashed.elapsed() < REQUEST_DEADLINE,
            "no caller waits for the deadline"
        );
    }
    pod.becomes(true).await;
    pod.stop().await;
}

#[tokio::test]
async fn an_enclave_that_ends_without_a_last_line_is_noticed() {
    let machine = Machine::new();
    let (pod, handle) = start(&machine).await;
    pod.becomes(true).await;
    // The connection of the log stays open, as if the machine had lost the enclave.
    let log = handle.crash(&machine).await;
    reason(&pod, "nitro-cli no longer lists i-").await;
    pod.becomes(true).await;
    drop(log);
    assert_eq!(machine.count("run-enclave"), 2);
    pod.stop().await;
}

#[tokio::test]
async fn failed_starts_are_repeated_and_their_reason_is_reported() {
    let machine = Machine::new();
    machine.next(
        "run-enclave",
        &["39-port-busy", "39-memory-available", "39-port-busy"],
    );
    let (pod, _handle) = start(&machine).await;
    reason(&pod, "(E36)").await;
    reason(&pod, "(E27").await;
    assert_eq!(
        refusal(pod.post(SIGN, "{}")).await,
        (503, "enclave_unavailable".to_owned())
    );
    pod.becomes(true).await;
    assert_eq!(machine.count("run-enclave"), 4);
    pod.stop().await;
}

#[tokio::test]
async fn an_image_with_other_measurements_is_never_started() {
    let machine = Machine::new();
    let measured = std::fs::read(machine.path("signer.eif")).unwrap();
    std::fs::write(machine.path("signer.eif"), image(b"tampered with")).unwrap();
    let (pod, _handle) = start(&machine).await;
    let said = reason(&pod, "PCR0 is ").await;
    assert!(
        said.contains("does not match the expected measurements"),
        "{said}"
    );
    let mut damaged = measured.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(machine.path("signer.eif"), damaged).unwrap();
    reason(&pod, "checksum is wrong").await;
    assert_eq!(
        machine.calls(),
        [] as [&str; 0],
        "nitro-cli was not called at all"
    );
    std::fs::write(machine.path("signer.eif"), measured).unwrap();
    pod.becomes(true).await;
    pod.stop().await;
}

#[tokio::test]
async fn without_readable_measurements_nothing_is_started() {
    for (contents, part) in [
        (None, "failed to read"),
        (Some("{"), "JSON object"),
        (Some(""), "no image `signer`"),
    ] {
        let machine = Machine::new();
        match contents {
            None => std::fs::remove_file(machine.path("measurements.json")).unwrap(),
            Some("") => machine.write_measurements("key-generator"),
            Some(text) => std::fs::write(machine.path("measurements.json"), text).unwrap(),
        }
        let (pod, _handle) = start(&machine).await;
        let said = reason(&pod, part).await;
        assert!(said.contains("measurements.json"), "{said}");
        assert_eq!(machine.calls(), [] as [&str; 0]);
        pod.stop().await;
    }
}

#[tokio::test]
async fn an_enclave_with_too_little_memory_is_refused_at_once() {
    let machine = Machine::new();
    std::fs::File::options()
        .append(true)
        .open(machine.path("signer.eif"))
        .unwrap()
        .set_len(33 << 20)
        .unwrap();
    let (driver, _handle) = FakeDriver::on(&machine);
    let config = cloister_pods::Config {
        enclave: None,
        managed: machine.config(),
        ..crate::pod::config(machine.directory.path())
    };
    let error = cloister_pods::Pod::with_driver(
        config.clone(),
        driver,
        Signer::new(Rows::default()),
        crate::pod::static_credentials(),
        crate::pod::keys(&config),
    )
    .unwrap_err();
    let said = ErrorChain(&error).to_string();
    assert!(
        matches!(error, PodError::Memory(_)) && said.contains("at least 132"),
        "{said}"
    );

    let config = cloister_pods::Config {
        managed: EnclaveConfig::default(),
        ..config
    };
    let keys = crate::pod::keys(&config);
    let error = cloister_pods::Pod::new(
        config,
        Signer::new(Rows::default()),
        crate::pod::static_credentials(),
        keys,
    )
    .unwrap_err();
    assert!(matches!(error, PodError::NoEnclave));
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_start_that_hangs() {
    let machine = Machine::new();
    machine.next("run-enclave", &["hang"]);
    let (pod, _handle) = start(&machine).await;
    eventually(async || (machine.count("run-enclave") == 1).then_some(())).await;
    let began = Instant::now();
    pod.stop().await;
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "nitro-cli would have had 200 s"
    );
}

/// A log of this thread's lines, in JSON, while the guard is held.
fn logged() -> (tempfile::NamedTempFile, tracing::subscriber::DefaultGuard) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(log.reopen().unwrap());
    let here = tracing::subscriber::set_default(tracing_subscriber::registry().with(json));
    (log, here)
}

fn has_event(log: &tempfile::NamedTempFile, event: &str) -> bool {
    let text = std::fs::read_to_string(log.path()).unwrap();
    text.contains(&format!(r#""event":"{event}""#))
}

#[tokio::test]
async fn a_stranger_can_neither_configure_nor_offer_a_way_out() {
    let machine = Machine::new();
    let (pod, handle) = start(&machine).await;
    pod.becomes(true).await;
    let address = address(machine.directory.path());
    let stranger = Client::new(address.clone(), strange());
    for operation in [
        Operation::Configure,
        Operation::Health,
        Operation::ProveBoot,
        Operation::SignTransaction,
    ] {
        let parts = vec![b"{}".to_vec().into()];
        let refused = stranger.call(Request { operation, parts }).await;
        assert_eq!(refused.unwrap_err().code, Code::EnclaveUnavailable);
    }
    let offered = strange().connect(&address, Purpose::Egress).await;
    assert!(matches!(offered, Err(TransportError::OtherSession)));
    let mind = handle.mind();
    assert_eq!(*mind.configured.lock().unwrap(), ["AKIDFIRST"]);
    assert_eq!(mind.begun.load(Ordering::SeqCst), 0);
    assert_eq!(pod.post(SIGN, "{}").send().await.unwrap().status(), 200);
    pod.stop().await;
}

#[tokio::test]
async fn each_boot_has_a_session_of_its_own() {
    let machine = Machine::new();
    let (pod, handle) = start(&machine).await;
    pod.becomes(true).await;
    let first = pod.session.value();
    drop(handle.crash(&machine).await);
    let second = pod.session.renewed(&first).await;
    pod.becomes(true).await;
    assert!(pod.session.value().matches(&second));
    let address = address(machine.directory.path());
    let former = cloister_transport::Session::new(first);
    let outcome = former.connect(&address, Purpose::Requests).await;
    assert!(matches!(outcome, Err(TransportError::OtherSession)));
    pod.stop().await;
}

#[tokio::test]
async fn an_enclave_that_somebody_else_bound_is_ended_and_replaced() {
    let (log, _here) = logged();
    let machine = Machine::new();
    let (driver, handle) = FakeDriver::on(&machine);
    handle.take_next();
    let pod = start_with(&machine, driver).await;
    eventually(async || has_event(&log, events::SESSION_MISMATCH).then_some(())).await;
    pod.becomes(true).await;
    assert_eq!(pod.post(SIGN, "{}").send().await.unwrap().status(), 200);
    assert_eq!(
        (
            machine.count("run-enclave"),
            machine.count("terminate-enclave"),
            machine.enclaves().len()
        ),
        (2, 1, 1)
    );
    pod.stop().await;
}

/// As SIGKILL ends a pod: nothing of it runs on, and its enclave does.
#[tokio::test]
async fn after_a_sudden_death_the_next_pod_ends_the_enclave_and_serves() {
    let machine = Arc::new(Machine::new());
    let (driver, handle) = FakeDriver::on(&machine);
    let dying = machine.clone();
    let (first_runtime, first) = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let pod = runtime.block_on(start_with(&dying, driver));
        (runtime, pod)
    })
    .await
    .unwrap();
    first.becomes(true).await;
    let left = machine.enclaves();
    first_runtime.shutdown_background();
    std::fs::remove_file(machine.path("addresses.json")).unwrap();
    assert_eq!(machine.enclaves(), left, "the enclave runs on");
    // It is of no use to another pod.
    let address = address(machine.directory.path());
    let outcome = strange().connect(&address, Purpose::Requests).await;
    assert!(matches!(outcome, Err(TransportError::OtherSession)));

    let second = start_with(&machine, FakeDriver::with(&machine, &handle)).await;
    second.becomes(true).await;
    assert_eq!(second.post(SIGN, "{}").send().await.unwrap().status(), 200);
    let running = machine.enclaves();
    assert!(running.len() == 1 && running != left, "{running:?}");
    let calls = machine.calls();
    let ended = format!("terminate-enclave --enclave-id {}", left[0]);
    let ended = calls.iter().position(|call| *call == ended).unwrap();
    let started = calls
        .iter()
        .rposition(|call| call.starts_with("run-enclave "))
        .unwrap();
    assert!(ended < started, "{calls:?}");
    second.stop().await;
}

#[tokio::test]
async fn the_enclaves_log_is_in_the_pods_log() {
    let (log, _here) = logged();
    let machine = Machine::new();
    let (pod, handle) = start(&machine).await;
    pod.becomes(true).await;
    for line in [
        r#"{"level":"WARN","target":"cloister_signer","event":"cmk_not_adopted","message":"m"}"#,
        "not JSON: \u{7}",
    ] {
        handle.say(line);
        let found = eventually(async || {
            let text = std::fs::read_to_string(log.path()).unwrap();
            let events = text
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            events.into_iter().find(|event| event["enclave"] == line)
        })
        .await;
        assert_eq!(found["target"], "cloister_enclave");
        if line.starts_with('{') {
            assert_eq!(found["event"], events::CMK_NOT_ADOPTED);
        }
        assert_eq!(
            found["level"],
            if line.starts_with('{') {
                "WARN"
            } else {
                "INFO"
            }
        );
    }
    pod.stop().await;
}
