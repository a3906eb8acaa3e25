//! One emulated machine: its files and the command lines of its processes.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cloister_contract::nsm::EMULATOR_MODULE_ID_PREFIX;
use cloister_pods::Launch;
use cloister_transport::Session;
use rustix::process::Pid;

use super::Tools;
use crate::child::Program;

/// Name and directories of an emulated machine.
#[derive(Clone, Debug, clap::Args)]
pub struct Machine {
    /// Its name, also of its logs and its NSM
    #[arg(long = "machine-name")]
    pub name: String,
    /// Directory of its sockets: private, with a short path
    #[arg(long = "machine-sockets")]
    pub sockets: PathBuf,
    /// Directory of its logs
    #[arg(long = "machine-logs")]
    pub logs: PathBuf,
    /// Seconds by which its clock is ahead of this machine's
    #[arg(
        long = "machine-clock-ahead",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub clock_ahead: i64,
}

impl Machine {
    /// The socket of its vsock ports; those of its parent are next to it.
    pub(super) fn vsock(&self) -> PathBuf {
        self.sockets.join(format!("{}.vsock", self.name))
    }

    /// Between QEMU and the vsock device.
    pub(super) fn vhost(&self) -> PathBuf {
        self.sockets.join(format!("{}.vhost", self.name))
    }

    /// The file that holds QEMU's process id while it runs.
    pub fn pid_file(&self) -> PathBuf {
        self.sockets.join(format!("{}.pid", self.name))
    }

    /// The file of the session value that its enclave is bound to, in hex: for tests that connect
    /// beside the pod.
    pub(super) fn session_file(&self) -> PathBuf {
        self.sockets.join(format!("{}.session", self.name))
    }

    /// Writes each new session value to its file, which only its owner may read.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn write_sessions(&self, session: Session) -> anyhow::Result<Infallible> {
        let mut value = session.value();
        loop {
            let mut file = tempfile::NamedTempFile::new_in(&self.sockets)?;
            file.write_all(const_hex::encode(value.expose()).as_bytes())?;
            file.persist(self.session_file())?;
            value = session.renewed(&value).await;
        }
    }

    /// The processes of QEMU that run it.
    pub fn emulators(&self) -> Vec<Pid> {
        let pid_file = self.pid_file();
        let runs_it = |process: &PathBuf| {
            let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0)
                .any(|argument| argument == pid_file.as_os_str().as_bytes())
        };
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .map(|process| process.path())
            .filter(runs_it)
            .filter_map(|process| Pid::from_raw(process.file_name()?.to_str()?.parse().ok()?))
            .collect()
    }

    /// The log of its serial port.
    pub fn console(&self) -> PathBuf {
        self.logs.join(format!("{}.log", self.name))
    }

    /// The process of the vsock device.
    pub(super) fn vsock_device(&self, tools: &Tools) -> Program {
        let (vhost, vsock) = (self.vhost(), self.vsock());
        Program::new(format!("{}-vsock", self.name), &tools.vsock_device).option(
            "vm",
            format!(
                "guest-cid={GUEST_CID},socket={},uds-path={},tx-buffer-size={BUFFER_SIZE}",
                vhost.display(),
                vsock.display()
            ),
        )
    }

    /// QEMU with an image: no network, no monitor, no disk, a console that is only written.
    pub(super) fn qemu(&self, tools: &Tools, launch: &Launch) -> Program {
        let mut qemu = Program::new(format!("{}-qemu", self.name), &tools.qemu)
            .argument("-M")
            .argument(format!(
                "nitro-enclave,vsock=vsock,id={EMULATOR_MODULE_ID_PREFIX}{}",
                self.name
            ))
            .argument("-accel")
            .argument(if kvm() { "kvm" } else { "tcg" })
            .argument("-cpu")
            .argument(if kvm() { "host" } else { "max" })
            .argument("-smp")
            .argument(launch.cpus.to_string())
            .argument("-m")
            .argument(format!("{}M", launch.memory_mib))
            .argument("-kernel")
            .argument(&launch.image)
            // The machine measures the image first. The last of several `reboot` counts: the
            // keyboard controller that the image would ask for is not there.
            .argument("-append")
            .argument(format!(
                "console=ttyS0 reboot=t cloister.parent_cid={EMULATED_PARENT_CID}{}",
                clock_source()
            ))
            .argument("-no-reboot")
            .argument("-pidfile")
            .argument(self.pid_file())
            .argument("-chardev")
            .argument(format!("socket,id=vsock,path={}", self.vhost().display()))
            .argument("-chardev")
            .argument(format!(
                "file,id=console,append=on,path={}",
                self.console().display()
            ))
            .argument("-serial")
            .argument("chardev:console")
            .argument("-display")
            .argument("none")
            .argument("-monitor")
            .argument("none")
            .argument("-rtc")
            .argument(format!("base={}", self.clock()));
        for directory in &tools.firmware {
            qemu = qemu.argument("-L").argument(directory);
        }
        qemu
    }

    fn clock(&self) -> String {
        let time = chrono::Utc::now() + chrono::TimeDelta::seconds(self.clock_ahead);
        time.format("%Y-%m-%dT%H:%M:%S").to_string()
    }
}

/// Checks that a unix socket is listened on without connecting to it: the vsock device serves the
/// first connection.
pub(super) fn listens(socket: &Path) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let path = socket.to_string_lossy();
    // Num RefCount Protocol Flags Type St Inode Path
    sockets
        .lines()
        .any(|line| line.ends_with(&format!(" {path}")) && line.split(' ').nth(3) == Some(ACCEPTS))
}

/// Checks that hardware virtualisation can be used: within a virtual machine the device may exist
/// and not work.
fn kvm() -> bool {
    let processor = cpu("flags")
        .is_some_and(|flags| flags.split(' ').any(|flag| flag == "vmx" || flag == "svm"));
    processor
        && OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok()
}

/// Without KVM a guest's time stamp counter is this machine's, but on a busy machine the guest
/// cannot find out how fast it counts, and its time stumbles. Its frequency is known where this
/// machine is itself a guest, so that it does not change.
fn clock_source() -> String {
    let guest = cpu("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    match cpu("cpu MHz").and_then(|mhz| mhz.parse::<f64>().ok()) {
        Some(mhz) if guest && !kvm() => format!(" tsc=reliable tsc_early_khz={:.0}", mhz * 1000.0),
        _ => String::new(),
    }
}

/// A property of this machine's first processor.
fn cpu(name: &str) -> Option<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    cpus.lines()
        .find_map(|line| Some(line.strip_prefix(name)?.split_once(": ")?.1.to_owned()))
}

/// Unique, because every machine has its own vsock device.
const GUEST_CID: u32 = 16;
/// Bytes that a guest may send before the device has passed them on. The device loses packets that
/// are spread over memory, as Linux makes them above 32 KiB: none is longer than this.
const BUFFER_SIZE: u32 = 24 * 1024;
/// The vsock device's number for the parent, other than on Nitro (`ports::PARENT_CID`).
const EMULATED_PARENT_CID: u32 = 2;
/// `__SO_ACCEPTCON` of Linux.
const ACCEPTS: &str = "00010000";

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_is_seen_to_listen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vhost");
        assert!(!listens(&path));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(listens(&path));
        drop(listener);
        assert!(!listens(&path));
    }
}
