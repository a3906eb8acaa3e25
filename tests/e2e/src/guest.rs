//! An emulated enclave without a pod: the application of its image tests it from within, and
//! reports in the log.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cloister_contract::{events, ports};
use cloister_eif::{Eif, Measurements};
use cloister_local::emulator::{Emulator, Machine, Tools};
use cloister_pods::{EnclaveDriver as _, Launch};
use cloister_transport::{Address, Stream};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

/// For an enclave to boot and be ready, on a machine that does much else.
pub const BOOT: Duration = Duration::from_secs(180);

/// A machine that can be started again and again.
#[derive(Debug)]
pub struct Guest {
    emulator: Emulator,
    launch: Launch,
}

impl Guest {
    /// Runs nothing yet. Sockets and console are in `directory`.
    pub fn new(tools: Tools, image: PathBuf, directory: &Path) -> Self {
        let (sockets, logs) = (directory.to_owned(), directory.to_owned());
        let machine = Machine {
            name: "guest".to_owned(),
            sockets,
            logs,
            clock_ahead: 0,
        };
        let launch = Launch {
            image,
            cpus: 1,
            memory_mib: 128,
            debug: false,
        };
        Self {
            emulator: Emulator::new(tools, machine),
            launch,
        }
    }

    /// Starts the machine, after what ran before has been ended, and reads its log.
    ///
    /// # Panics
    /// When it does not boot.
    pub async fn boot(&mut self) -> Log {
        self.emulator
            .clean_up()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        self.emulator
            .start(&self.launch)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        Log(BufReader::new(self.connect(ports::LOG).await))
    }

    /// Connects to a port of the enclave as soon as it listens.
    ///
    /// # Panics
    /// When it never does.
    pub async fn connect(&self, port: u32) -> Stream {
        let address = self.emulator.address(port);
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

    /// Waits until the machine has stopped.
    ///
    /// # Panics
    /// When it does not.
    pub async fn ended(&mut self) {
        timeout(BOOT, self.emulator.ended())
            .await
            .expect("the machine stops with its enclave");
    }

    /// The unix socket to listen on for what connects to a port of its parent.
    ///
    /// # Panics
    /// When the emulator's addresses are no longer paths.
    pub fn parent_socket(&self, port: u32) -> PathBuf {
        let Address::Hybrid { path, .. } = self.emulator.address(port) else {
            panic!("an emulator's address is a path")
        };
        let mut path = path.into_os_string();
        path.push(format!("_{port}"));
        path.into()
    }
}

/// The log of an enclave, one JSON object per line.
#[derive(Debug)]
pub struct Log(BufReader<Stream>);

impl Log {
    /// The next line whose `member` is `value`.
    ///
    /// # Panics
    /// If there is none.
    pub async fn line_with(&mut self, member: &str, value: &str) -> Value {
        let read = async {
            loop {
                let mut line = String::new();
                let read = self.0.read_line(&mut line).await.expect("a line");
                assert!(read > 0, "the log ends without {member} {value:?}");
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if line[member] == value {
                    break line;
                }
            }
        };
        timeout(BOOT, read)
            .await
            .expect("the enclave's line in time")
    }

    /// The checks of the self-test: each must hold.
    ///
    /// # Panics
    /// When one does not.
    pub async fn checks(&mut self) -> Vec<Value> {
        let report = self.line_with("message", "self-test").await;
        let checks = report["checks"].as_array().expect("a list").clone();
        for check in &checks {
            assert_eq!(check["held"], true, "{check}");
        }
        checks
    }

    /// The last line, with the reason of the enclave's end.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn end(mut self) -> Value {
        self.line_with("event", events::ENCLAVE_ENDED).await
    }
}

/// Makes an image of a release whose application is the self-test. What its builder and our reader
/// say it measures as is the same.
///
/// # Panics
/// When it cannot be made.
pub fn assemble(tools: &Tools, release: &Path, image: &Path) -> Measurements {
    let settings = image.with_extension("settings.json");
    std::fs::write(&settings, "{}").expect("a file");
    let mut tool = Command::new(&tools.image_tool);
    tool.args(["one", "--application", "guest-self-test", "--release"])
        .arg(release);
    let output = tool
        .arg("--settings")
        .arg(settings)
        .arg("--output")
        .arg(image)
        .output()
        .expect("the image tool");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: Value = serde_json::from_slice(&output.stdout).expect("measurements");
    let measured = Eif::read(image).expect("an image").measurements();
    for (name, pcr) in [
        ("pcr0", measured.pcr0),
        ("pcr1", measured.pcr1),
        ("pcr2", measured.pcr2),
    ] {
        assert_eq!(
            told[name].as_str(),
            Some(&*const_hex::encode(pcr)),
            "{name}"
        );
    }
    measured
}
