//! The volume profile's directory: NFS 4.2 from a server at the parent, over a bridge from TCP to
//! vsock.
//!
//! The parent can read, change, roll back and remove everything on it; see `docs/images.md`.

use std::ffi::CString;
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cloister_contract::enclave_log::{End, InitEvent};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, WaitStatus};

use crate::child::{copy_lines, pid};
use crate::command_line::Export;
use crate::error::{BootError, MOUNT_DEADLINE, VolumeError};
use crate::log::Log;
use crate::sandbox::{BRIDGE_ADDRESS, Role};

/// The mounted volume.
#[derive(Debug)]
pub(crate) struct Volume {
    /// The process that carries the kernel's NFS traffic.
    pub(crate) bridge: Pid,
}

impl Volume {
    /// Starts the bridge to a port of the parent and mounts the server's export.
    ///
    /// # Errors
    /// [`BootError::Volume`].
    pub(crate) fn mount(export: &Export, cid: u32, log: &Log) -> Result<Self, BootError> {
        let Export { port, path } = export;
        let mounted = start_bridge(cid, *port, log).and_then(|bridge| {
            mount_within(MOUNT_DEADLINE, path)?;
            Ok(Self { bridge })
        });
        let volume = mounted.map_err(|source| BootError::Volume {
            export: path.clone(),
            port: *port,
            source,
        })?;
        log.event(InitEvent::VolumeMounted {
            cid,
            port: *port,
            export: path.clone(),
        });
        Ok(volume)
    }
}

/// Returns when it listens.
fn start_bridge(cid: u32, port: u32, log: &Log) -> Result<Pid, VolumeError> {
    let mut command = Role::Bridge { cid, port }.command();
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut bridge = command.spawn().map_err(VolumeError::Start)?;
    if let Some(stderr) = bridge.stderr.take() {
        copy_lines(stderr, log.clone(), mpsc::channel().0);
    }
    wait_until_listening(&mut bridge)?;
    pid(&bridge).map_err(VolumeError::Start)
}

fn wait_until_listening(bridge: &mut Child) -> Result<(), VolumeError> {
    let deadline = Instant::now() + LISTEN_DEADLINE;
    while let Err(error) = TcpStream::connect(BRIDGE_ADDRESS) {
        if let Some(status) = bridge.try_wait().map_err(VolumeError::Start)? {
            return Err(VolumeError::Ended(status));
        }
        if Instant::now() >= deadline {
            return Err(VolumeError::Start(error));
        }
        thread::sleep(RETRY);
    }
    Ok(())
}

/// The kernel itself would retry for minutes.
fn mount_within(deadline: Duration, path: &str) -> Result<(), VolumeError> {
    let (done, is_done) = mpsc::channel();
    let source = format!("{}:{path}", BRIDGE_ADDRESS.ip());
    let data = CString::new(options()).map_err(|error| VolumeError::Mount(error.into()))?;
    thread::spawn(move || {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        done.send(mount(source, TARGET, "nfs4", flags, Some(data.as_c_str())))
    });
    match is_done.recv_timeout(deadline) {
        Ok(mounted) => mounted.map_err(|error| VolumeError::Mount(error.into())),
        Err(_) => Err(VolumeError::Deadline),
    }
}

/// Of mount(2), as nfs(5) describes them. `hard`: while the server is unavailable the application
/// waits and loses no data.
fn options() -> String {
    let (ip, port) = (BRIDGE_ADDRESS.ip(), BRIDGE_ADDRESS.port());
    format!(
        "vers=4.2,proto=tcp,addr={ip},port={port},clientaddr={ip},sec=sys,hard,timeo=100,retrans=2"
    )
}

/// The end of an enclave whose bridge has ended.
pub(crate) fn bridge_ended(status: WaitStatus) -> End {
    let error = match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => format!("the volume's bridge exited with status {status}"),
        (None, signal) => format!(
            "signal {} ended the volume's bridge",
            signal.unwrap_or_default()
        ),
    };
    End::VolumeFailed { error }
}

/// The directory of the image on which the volume appears.
const TARGET: &str = "/volume";
const LISTEN_DEADLINE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(20);
