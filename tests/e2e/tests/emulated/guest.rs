//! The self-test from within: an image whose application checks NSM, clock, sandbox and vsock, and reports on the log port.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cloister_eif::{Eif, Measurements};
use cloister_local::emulator::{Emulator, Machine, Tools};
use cloister_pods::{EnclaveDriver as _, Launch};
use cloister_transport::Stream;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use crate::{BOOT, TURN};

#[tokio::test(flavor = "multi_thread")]
async fn every_check_holds_and_every_end_has_its_reason() {
    let _turn = TURN.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let tools = Tools::find().unwrap();
    let image = directory.path().join("guest.eif");
    let measured = assemble(&tools, &image);
    let machine = Machine {
        name: "guest".to_owned(),
        sockets: directory.path().to_owned(),
        logs: directory.path().to_owned(),
        clock_ahead: 0,
    };
    let mut emulator = Emulator::new(tools, machine);
    let launch = Launch { image, cpus: 1, memory_mib: 128, debug: false };

    for (byte, reason, member, value) in [
        (b'e', "application_exited", "status", 3),
        (b'a', "application_killed", "signal", 6),
        (b's', "application_sandbox", "", 0),
    ] {
        emulator.clean_up().await.unwrap();
        emulator.start(&launch).await.unwrap();
        let mut log = Log::of(&emulator).await;
        let report = log.line_with("self-test").await;
        check(&report, &measured);
        told(&emulator, byte).await;
        let end = log.line_with("the enclave ends").await;
        assert_eq!(end["reason"], reason, "{end}");
        assert!(member.is_empty() || end[member] == value, "{end}");
        drop(log);
        timeout(BOOT, emulator.ended()).await.expect("the machine stops with its enclave");
    }
}

/// What the builder says, the reader of images computes, and the guest hears from its NSM.
fn check(report: &Value, measured: &Measurements) {
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() >= 20, "only {} checks", checks.len());
    for check in checks {
        assert_eq!(check["held"], true, "{check}");
    }
    for (name, pcr) in [("pcr0", measured.pcr0), ("pcr1", measured.pcr1), ("pcr2", measured.pcr2)] {
        let found = checks.iter().find(|check| check["name"] == name).unwrap();
        assert_eq!(found["detail"].as_str(), Some(&*const_hex::encode(pcr)), "{name}");
    }
}

fn assemble(tools: &Tools, image: &Path) -> Measurements {
    let settings = image.with_extension("settings.json");
    std::fs::write(&settings, "{}").unwrap();
    let mut tool = Command::new(&tools.image_tool);
    tool.args(["one", "--application", "guest-self-test", "--release"]).arg(&tools.guest_release);
    let output = tool.arg("--settings").arg(settings).arg("--output").arg(image).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let measured = Eif::read(image).unwrap().measurements();
    for (name, pcr) in [("pcr0", measured.pcr0), ("pcr1", measured.pcr1), ("pcr2", measured.pcr2)] {
        assert_eq!(told[name].as_str(), Some(&*const_hex::encode(pcr)), "{name}");
    }
    measured
}

/// Sends the byte that says how to end.
async fn told(emulator: &Emulator, byte: u8) {
    let mut stream = connect(emulator, 5000).await;
    stream.write_u8(byte).await.unwrap();
    stream.flush().await.unwrap();
}

async fn connect(emulator: &Emulator, port: u32) -> Stream {
    let address = emulator.address(port);
    let connect = async {
        loop {
            match Stream::connect(&address).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(BOOT, connect).await.expect("the enclave listens")
}

struct Log(BufReader<Stream>);

impl Log {
    async fn of(emulator: &Emulator) -> Self {
        Self(BufReader::new(connect(emulator, 5001).await))
    }

    /// The next line whose message is `message`.
    async fn line_with(&mut self, message: &str) -> Value {
        let read = async {
            loop {
                let mut line = String::new();
                assert!(self.0.read_line(&mut line).await.unwrap() > 0, "the log ends without {message:?}");
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if line["message"] == message {
                    break line;
                }
            }
        };
        timeout(BOOT, read).await.expect("the enclave says so")
    }
}
