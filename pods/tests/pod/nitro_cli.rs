//! The `nitro-cli` driver with every kind of answer of the program.

use cloister_pods::{DriverError, EnclaveDriver as _, NitroCli};
use tokio::io::AsyncReadExt as _;

use crate::machine::Machine;
use crate::pod::eventually;

#[tokio::test]
async fn an_enclave_is_started_watched_and_terminated() {
    let machine = Machine::new();
    let mut driver = machine.nitro_cli();
    driver.clean_up().await.unwrap();
    driver.start(&machine.launch()).await.unwrap();
    let id = machine.enclaves()[0].clone();
    driver.terminate().await.unwrap();
    driver.terminate().await.unwrap();
    let image = machine.path("signer.eif");
    let run = format!(
        "run-enclave --eif-path {} --cpu-count 2 --memory 128 --enclave-cid 16 --enclave-name cloister-signer",
        image.display()
    );
    assert_eq!(
        machine.calls(),
        [
            "describe-enclaves",
            &run,
            &format!("terminate-enclave --enclave-id {id}")
        ]
    );
    assert!(machine.enclaves().is_empty());
}

#[tokio::test]
async fn only_stale_enclaves_with_its_name_or_cid_are_terminated() {
    let machine = Machine::new();
    machine.leave("i-0-enc1", "cloister-signer", 90);
    machine.leave("i-0-enc2", "another", 16);
    machine.leave("i-0-enc3", "another", 91);
    machine.nitro_cli().clean_up().await.unwrap();
    assert_eq!(machine.enclaves(), ["i-0-enc3"]);
    assert_eq!(machine.count("terminate-enclave"), 2);
}

#[tokio::test]
async fn every_refusal_has_a_cause_and_a_remedy() {
    let machine = Machine::new();
    for (outcome, problem, remedy) in [
        (
            "39-no-boot",
            "did not boot (E36; Waiting on enclave to boot failed with error VsockTimeoutError)",
            "DEBUG",
        ),
        (
            "39-memory-requested",
            "too little memory (E26; At least 68 MB",
            "raise CLOISTER_ENCLAVE_MEMORY_MIB",
        ),
        (
            "39-memory-available",
            "huge pages are reserved (E27; Failed to allocate entire memory (64 MB remained))",
            "memory_mib in",
        ),
        (
            "39-no-device",
            "not enabled on this instance (E19; ",
            "enclaves enabled",
        ),
        (
            "39-device-denied",
            "access to /dev/nitro_enclaves is denied (E19; ",
            "group `ne`",
        ),
        (
            "39-cpus",
            "virtual CPUs are reserved (E22; Insufficient CPUs available (requested 2, but maximum is 0))",
            "cpu_count in",
        ),
        ("39-cores", "whole cores (E29; ", "CLOISTER_ENCLAVE_CPUS"),
        (
            "39-signature",
            "signature is not valid (E59; ",
            "certificate may have expired",
        ),
        ("39-no-answer", "does not answer (E39; ", "another user"),
        (
            "02-usage",
            "unknown option: error: unexpected argument '--enclave-name' found",
            "newer",
        ),
        ("garbage", "malformed output", "CLOISTER_NITRO_CLI"),
        ("endless", "signal", "nitro_enclaves.log"),
        ("crash", "signal", "nitro_enclaves.log"),
    ] {
        machine.next("run-enclave", &[outcome]);
        let error = machine
            .nitro_cli()
            .start(&machine.launch())
            .await
            .unwrap_err();
        let DriverError::Failed {
            problem: said,
            remedy: advised,
        } = &error
        else {
            panic!("{outcome}: {error}")
        };
        assert!(
            said.contains(problem) && advised.contains(remedy),
            "{outcome}: {error}"
        );
        assert!(machine.enclaves().is_empty());
    }
}

#[tokio::test]
async fn a_busy_heartbeat_port_is_temporary() {
    let machine = Machine::new();
    machine.next("run-enclave", &["39-port-busy"]);
    let mut driver = machine.nitro_cli();
    let error = driver.start(&machine.launch()).await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Busy(said) if said.contains("3:9000")),
        "{error}"
    );
    driver.start(&machine.launch()).await.unwrap();
}

#[tokio::test]
async fn a_missing_nitro_cli_or_socket_directory_is_diagnosed() {
    let machine = Machine::new();
    let mut driver = NitroCli::new(machine.path("nowhere"), "cloister-signer".into(), 16);
    let said = driver.clean_up().await.unwrap_err().to_string();
    assert!(
        said.contains("nowhere") && said.contains("install aws-nitro-enclaves-cli"),
        "{said}"
    );
    driver.terminate().await.unwrap();

    let mut driver = NitroCli::new(machine.path("signer.eif"), "cloister-signer".into(), 16);
    let said = driver.clean_up().await.unwrap_err().to_string();
    assert!(said.contains("let the pod's user run it"), "{said}");

    machine.next("describe-enclaves", &["07-no-sockets"]);
    let said = machine
        .nitro_cli()
        .clean_up()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("(E07; ") && said.contains("/run/nitro_enclaves"),
        "{said}"
    );
}

#[tokio::test]
async fn an_unresponsive_enclave_of_another_user_is_ignored() {
    let machine = Machine::new();
    machine.next("describe-enclaves", &["39-no-answer"]);
    machine.nitro_cli().clean_up().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_start_leaves_no_enclave() {
    let machine = Machine::new();
    machine.next("run-enclave", &["lost"]);
    let mut driver = machine.nitro_cli();
    let launch = machine.launch();
    tokio::select! {
        started = driver.start(&launch) => panic!("{started:?}"),
        () = eventually(async || (!machine.enclaves().is_empty()).then_some(())) => {}
    }
    driver.terminate().await.unwrap();
    assert!(machine.enclaves().is_empty());
}

#[tokio::test]
async fn an_enclave_with_another_name_is_terminated() {
    let machine = Machine::new();
    machine.next("run-enclave", &["renamed"]);
    let said = machine
        .nitro_cli()
        .start(&machine.launch())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("cloister-signer_1") && said.contains("CLOISTER_ENCLAVE_NAME"),
        "{said}"
    );
    assert!(machine.enclaves().is_empty());
}

#[tokio::test]
async fn an_enclave_that_is_gone_is_noticed_and_needs_no_termination() {
    let machine = Machine::new();
    let mut driver = machine.nitro_cli();
    driver.start(&machine.launch()).await.unwrap();
    let id = machine.enclaves()[0].clone();
    std::fs::remove_file(machine.path("enclaves").join(&id)).unwrap();
    // Unclear answers do not count as an end.
    machine.next("describe-enclaves", &["39-no-answer", "garbage"]);
    assert_eq!(
        driver.ended().await,
        format!("nitro-cli no longer lists {id}")
    );
    assert_eq!(machine.count("describe-enclaves"), 3);
    driver.terminate().await.unwrap();
    assert_eq!(
        machine.count("terminate-enclave"),
        1,
        "nitro-cli does not list it"
    );
}

#[tokio::test]
async fn a_debug_enclave_has_a_console() {
    let machine = Machine::new();
    let mut driver = machine.nitro_cli();
    driver
        .start(&cloister_pods::Launch {
            debug: true,
            ..machine.launch()
        })
        .await
        .unwrap();
    assert!(machine.calls()[0].ends_with(" --debug-mode"));
    let mut console = driver.console().await.unwrap().unwrap();
    let mut said = String::new();
    console.read_to_string(&mut said).await.unwrap();
    assert!(said.contains("Linux version"), "{said}");
}
