//! A machine with a fake `nitro-cli` and fake enclaves.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cloister_contract::ports;
use cloister_eif::Eif;
use cloister_pods::{Console, DriverError, EnclaveConfig, EnclaveDriver, Launch, NitroCli};
use cloister_transport::{Address, Listener};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::runtime;
use tokio::sync::mpsc;

use crate::enclave::{Enclave, Mind, address, strange};

pub(crate) struct Machine {
    pub(crate) directory: TempDir,
}

impl Machine {
    /// A machine with an image of the signer that matches its measurements.
    pub(crate) fn new() -> Self {
        let machine = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nitro-cli/nitro-cli");
        symlink(program, machine.path("nitro-cli")).unwrap();
        std::fs::create_dir(machine.path("enclaves")).unwrap();
        std::fs::write(machine.path("signer.eif"), image(b"application")).unwrap();
        machine.write_measurements("signer");
        machine
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the measurements of the present image.
    pub(crate) fn write_measurements(&self, service: &str) {
        let found = Eif::read(&self.path("signer.eif")).unwrap().measurements();
        let [pcr0, pcr1, pcr2] = [found.pcr0, found.pcr1, found.pcr2].map(hexadecimal);
        let image = json!({"file": "signer.eif", "size": 1, "sha256": "", "pcr0": pcr0, "pcr1": pcr1, "pcr2": pcr2});
        let file = json!({"format": 1, "architecture": "amd64", "settings": {}, "inputs": {}, "images": {service: image}});
        std::fs::write(self.path("measurements.json"), file.to_string()).unwrap();
    }

    pub(crate) fn launch(&self) -> Launch {
        Launch {
            image: self.path("signer.eif"),
            cpus: 2,
            memory_mib: 128,
            debug: false,
        }
    }

    pub(crate) fn config(&self) -> EnclaveConfig {
        EnclaveConfig {
            enclave_image: Some(self.path("signer.eif")),
            enclave_measurements: Some(self.path("measurements.json")),
            enclave_cpus: Some(2),
            enclave_memory_mib: Some(128),
            ..EnclaveConfig::default()
        }
    }

    pub(crate) fn nitro_cli(&self) -> NitroCli {
        NitroCli::new(self.path("nitro-cli"), "cloister-signer".into(), 16)
    }

    /// Sets the outcomes of the next calls of `command`.
    pub(crate) fn next(&self, command: &str, outcomes: &[&str]) {
        std::fs::write(
            self.path(&format!("{command}.next")),
            outcomes.join("\n") + "\n",
        )
        .unwrap();
    }

    /// Adds a running enclave of an earlier pod.
    pub(crate) fn leave(&self, id: &str, name: &str, cid: u32) {
        std::fs::write(self.path("enclaves").join(id), format!("{name} {cid}\n")).unwrap();
    }

    /// The ids of running enclaves.
    pub(crate) fn enclaves(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("enclaves")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// The number of calls of `command`.
    pub(crate) fn count(&self, command: &str) -> usize {
        self.calls()
            .iter()
            .filter(|call| call.starts_with(command))
            .count()
    }
}

/// An image that cannot boot: its sections hold text.
/// <https://github.com/aws/aws-nitro-enclaves-image-format>, src/defs/mod.rs: `EifHeader`,
/// `EifSectionHeader`.
pub(crate) fn image(application: &[u8]) -> Vec<u8> {
    let sections: [(u16, &[u8]); 5] = [
        (1, b"kernel"),
        (2, b"console=null"),
        (5, b"{}"),
        (3, b"init"),
        (3, application),
    ];
    let (mut offsets, mut lens, mut body) = ([0; 32], [0; 32], Vec::new());
    for (index, (kind, content)) in sections.into_iter().enumerate() {
        (offsets[index], lens[index]) = (548 + body.len() as u64, content.len() as u64);
        body.extend(
            [
                &kind.to_be_bytes()[..],
                &[0, 0],
                &lens[index].to_be_bytes(),
                content,
            ]
            .concat(),
        );
    }
    let mut header = b".eif\0\x04\0\0".to_vec();
    header.extend([0; 18]);
    header.extend([0, 5]);
    header.extend(
        offsets
            .iter()
            .chain(&lens)
            .flat_map(|number: &u64| number.to_be_bytes()),
    );
    header.extend([0; 4]);
    let crc = crc32fast::hash(&[&header[..], &body].concat());
    [&header[..], &crc.to_be_bytes(), &body].concat()
}

fn hexadecimal(bytes: [u8; 48]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).concat()
}

/// A driver whose enclaves are fakes: their ports are paths.
#[derive(Debug)]
pub(crate) struct FakeDriver {
    cli: NitroCli,
    directory: PathBuf,
    handle: Handle,
    /// Enclaves live on when the runtime of their pod ends.
    machine: runtime::Handle,
}

/// The test's handle of the running fake.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handle {
    life: Arc<Mutex<Option<Life>>>,
    taken: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Life {
    enclave: Enclave,
    log: mpsc::UnboundedSender<String>,
}

impl FakeDriver {
    pub(crate) fn on(machine: &Machine) -> (Self, Handle) {
        let handle = Handle::default();
        (Self::with(machine, &handle), handle)
    }

    /// The driver of another pod on the same machine.
    pub(crate) fn with(machine: &Machine, handle: &Handle) -> Self {
        Self {
            cli: machine.nitro_cli(),
            directory: machine.directory.path().to_owned(),
            handle: handle.clone(),
            machine: runtime::Handle::current(),
        }
    }
}

impl Handle {
    /// Somebody else binds the next enclave before its pod.
    pub(crate) fn take_next(&self) {
        self.taken.store(true, Ordering::SeqCst);
    }

    pub(crate) fn mind(&self) -> Arc<Mind> {
        self.life
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .enclave
            .mind
            .clone()
    }

    pub(crate) fn say(&self, line: &str) {
        self.life
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .log
            .send(format!("{line}\n"))
            .unwrap();
    }

    /// Ends the enclave; its log ends when the returned sender is dropped.
    pub(crate) async fn crash(&self, machine: &Machine) -> mpsc::UnboundedSender<String> {
        let Life { enclave, log } = self.life.lock().unwrap().take().unwrap();
        std::fs::remove_file(machine.path("enclaves").join(&machine.enclaves()[0])).unwrap();
        enclave.die().await;
        log
    }
}

impl EnclaveDriver for FakeDriver {
    fn address(&self, port: u32) -> Address {
        assert!(
            matches!(self.cli.address(port), Address::Vsock { cid: 16, port: vsock } if vsock == port)
        );
        match port {
            ports::REQUESTS => address(&self.directory),
            ports::LOG => Address::Unix(self.directory.join("log.sock")),
            _ => panic!("an enclave has no port {port}"),
        }
    }

    async fn clean_up(&mut self) -> Result<(), DriverError> {
        self.cli.clean_up().await?;
        let left = self.handle.life.lock().unwrap().take();
        if let Some(Life { enclave, .. }) = left {
            enclave.die().await;
        }
        Ok(())
    }

    async fn start(&mut self, launch: &Launch) -> Result<(), DriverError> {
        self.cli.start(launch).await?;
        let (log_address, directory) = (self.address(ports::LOG), self.directory.clone());
        let session = self
            .handle
            .taken
            .swap(false, Ordering::SeqCst)
            .then(strange);
        let boot = self.machine.spawn(async move {
            let listener = Listener::bind(&log_address).await.unwrap();
            let (log, mut lines) = mpsc::unbounded_channel::<String>();
            tokio::spawn(async move {
                let mut stream = listener.accept().await.unwrap();
                drop(listener);
                while let Some(line) = lines.recv().await {
                    // Fails when the pod is gone.
                    let _ = stream.write_all(line.as_bytes()).await;
                }
            });
            let enclave = Enclave::start_bound_to(session, &directory, "signer").await;
            Life { enclave, log }
        });
        *self.handle.life.lock().unwrap() = Some(boot.await.unwrap());
        Ok(())
    }

    async fn ended(&mut self) -> String {
        self.cli.ended().await
    }

    async fn terminate(&mut self) -> Result<(), DriverError> {
        let life = self.handle.life.lock().unwrap().take();
        if let Some(Life { enclave, .. }) = life {
            enclave.die().await;
        }
        self.cli.terminate().await
    }

    async fn console(&mut self) -> Result<Option<Console>, DriverError> {
        self.cli.console().await
    }
}
