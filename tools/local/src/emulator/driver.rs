//! The pods' driver for emulated enclaves: starts, watches and ends them.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use cloister_pods::{Console, DriverError, EnclaveDriver, Launch};
use cloister_transport::Address;
use rustix::process::{Signal, kill_process};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::machine::{Machine, listens};
use super::parent::Parent;
use super::tools::Tools;
use crate::child::Running;

/// Runs one enclave in QEMU.
pub struct Emulator {
    tools: Tools,
    machine: Machine,
    enclave: Option<Enclave>,
}

/// The processes of an enclave. They end when it is dropped, and when this process ends.
#[derive(Debug)]
struct Enclave {
    qemu: Running,
    vsock: Running,
}

impl Emulator {
    /// Runs nothing yet.
    pub fn new(tools: Tools, machine: Machine) -> Self {
        Self {
            tools,
            machine,
            enclave: None,
        }
    }

    /// QEMU ends at once if it cannot read the image; its log has the reason.
    async fn boot(&self, launch: &Launch) -> Result<Enclave, DriverError> {
        let parent = Parent::listen(&self.machine.vsock())
            .await
            .map_err(|error| cannot("listen for the boot", error))?;
        let vsock = self
            .machine
            .vsock_device(&self.tools)
            .start(&self.machine.logs);
        let mut vsock = vsock.map_err(|error| cannot("start the vsock device", error))?;
        let deadline = Instant::now() + DEVICE_DEADLINE;
        while !listens(&self.machine.vhost()) {
            if vsock.ended().is_some() || Instant::now() > deadline {
                return Err(cannot(
                    "connect the vsock device",
                    vsock.failure("it does not listen"),
                ));
            }
            sleep(Duration::from_millis(2)).await;
        }
        let qemu = self
            .machine
            .qemu(&self.tools, launch)
            .start(&self.machine.logs);
        let mut enclave = Enclave {
            qemu: qemu.map_err(|error| cannot("start QEMU", error))?,
            vsock,
        };
        let booted = tokio::select! {
            heard = timeout(BOOT_DEADLINE, parent.hear_heartbeat()) => heard.unwrap_or(Err(io::ErrorKind::TimedOut.into())),
            _ = enclave.gone() => Err(io::Error::other("it ended")),
        };
        match booted {
            Ok(()) => Ok(enclave),
            Err(error) => Err(DriverError::failed(
                format!(
                    "the enclave does not boot: {:#}",
                    enclave.qemu.failure(&error.to_string())
                ),
                format!("see its console in {}", self.machine.console().display()),
            )),
        }
    }
}

impl Enclave {
    async fn gone(&mut self) -> String {
        tokio::select! {
            status = self.qemu.wait() => format!("QEMU ended ({status})"),
            status = self.vsock.wait() => format!("the vsock device ended ({status})"),
        }
    }
}

impl EnclaveDriver for Emulator {
    fn address(&self, port: u32) -> Address {
        Address::Hybrid {
            path: self.machine.vsock(),
            port,
        }
    }

    /// An earlier pod's processes are told to end when it does, and may take a while; their files
    /// remain.
    async fn clean_up(&mut self) -> Result<(), DriverError> {
        self.terminate().await?;
        let deadline = Instant::now() + END_DEADLINE;
        while let Some(left) = self.machine.emulators().first() {
            if Instant::now() > deadline {
                return Err(cannot("end an earlier emulator", "it goes on"));
            }
            // An error means that it has just ended.
            let _ = kill_process(*left, Signal::KILL);
            sleep(Duration::from_millis(10)).await;
        }
        for file in [
            self.machine.vsock(),
            self.machine.vhost(),
            self.machine.pid_file(),
        ] {
            remove(&file).map_err(|error| cannot("remove what was left behind", error))?;
        }
        Ok(())
    }

    async fn start(&mut self, launch: &Launch) -> Result<(), DriverError> {
        if launch.debug {
            let remedy = "its console is in a log file anyway".to_owned();
            return Err(DriverError::Failed {
                problem: "an emulated enclave has no debug mode".to_owned(),
                remedy,
            });
        }
        self.enclave = Some(self.boot(launch).await?);
        Ok(())
    }

    async fn ended(&mut self) -> String {
        match &mut self.enclave {
            Some(enclave) => enclave.gone().await,
            None => "not started".to_owned(),
        }
    }

    async fn terminate(&mut self) -> Result<(), DriverError> {
        if let Some(enclave) = self.enclave.take() {
            // Waits for the processes.
            let dropped = spawn_blocking(move || drop(enclave)).await;
            dropped.map_err(|error| cannot("end QEMU", error))?;
        }
        Ok(())
    }

    async fn console(&mut self) -> Result<Option<Console>, DriverError> {
        Ok(None)
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn cannot(what: &str, error: impl fmt::Display) -> DriverError {
    DriverError::failed(
        format!("failed to {what}: {error:#}"),
        "see the logs of the machine",
    )
}

const DEVICE_DEADLINE: Duration = Duration::from_secs(20);
const END_DEADLINE: Duration = Duration::from_secs(20);
/// Without KVM a boot takes some seconds, on a machine that is busy many.
const BOOT_DEADLINE: Duration = Duration::from_secs(120);
