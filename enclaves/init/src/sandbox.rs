//! Turns a second process of this program into the application: it drops every right that the
//! application does not use, then executes it.
//!
//! A dropped right cannot be regained, so the order is: limits and capabilities first, then the
//! user, then the system calls.

mod filter;

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit, umask};
use rustix::thread::{
    CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

pub use filter::{FilterError, install};

/// The program that the process becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The application of every image.
    Application,
    /// The application of the volume profile.
    ApplicationWithVolume,
    /// The bridge that carries the volume's traffic.
    Bridge {
        /// The parent's context id.
        cid: u32,
        /// The parent's port that leads to the NFS server.
        port: u32,
    },
}

impl Role {
    /// The role that `Role::command` gave its arguments for.
    pub fn from_arguments(arguments: impl Iterator<Item = String>) -> Self {
        let arguments: Vec<_> = arguments.collect();
        match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [BRIDGE, cid, port] => match (cid.parse(), port.parse()) {
                (Ok(cid), Ok(port)) => Self::Bridge { cid, port },
                _ => Self::Application,
            },
            [VOLUME] => Self::ApplicationWithVolume,
            _ => Self::Application,
        }
    }

    /// This program once more, to take on the role.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(THIS_PROGRAM);
        match self {
            Self::Application => &mut command,
            Self::ApplicationWithVolume => command.arg(VOLUME),
            Self::Bridge { cid, port } => {
                command.args([BRIDGE, &cid.to_string(), &port.to_string()])
            }
        };
        command
    }

    /// Replaces this process with the role's program. Returns only if that is impossible.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn take_on(&self) -> Result<Infallible, SandboxError> {
        let (user, mut program) = match self {
            Self::Application | Self::ApplicationWithVolume => (APPLICATION, Command::new(PROGRAM)),
            Self::Bridge { cid, port } => (APPLICATION + 1, bridge(*cid, *port)),
        };
        limit_resources().map_err(SandboxError::Limits)?;
        drop_bounding_set().map_err(SandboxError::Capabilities)?;
        become_user(user).map_err(SandboxError::User)?;
        set_no_new_privs(true).map_err(|source| SandboxError::User(source.into()))?;
        install(self)?;
        // The filter has to allow this system call, so the application may also make it. It gains
        // nothing: it cannot write the image's programs, and a program that it executes inherits
        // user, limits and filter.
        let source = program.env_clear().exec();
        Err(SandboxError::Execute {
            program: program.get_program().to_owned(),
            source,
        })
    }
}

fn bridge(cid: u32, port: u32) -> Command {
    let mut bridge = Command::new("/vsock-bridge");
    bridge
        .arg("--listen")
        .arg(format!("tcp:{}", BRIDGE_ADDRESS))
        .arg("--connect")
        .arg(format!("vsock:{cid}:{port}"));
    bridge.args([
        "--name",
        "volume",
        "--threads",
        "1",
        "--connections",
        "16",
        "--log-level",
        "warn",
    ]);
    bridge
}

fn limit_resources() -> io::Result<()> {
    for (resource, limit) in [
        // A core holds keys.
        (Resource::Core, 0),
        // A thousand requests and their way to AWS.
        (Resource::Nofile, 4096),
        // Threads: one per processor and the 512 that may block.
        (Resource::Nproc, 1024),
    ] {
        setrlimit(
            resource,
            Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            },
        )?;
    }
    Ok(())
}

/// No program that is executed from here on can have a capability, whatever its file requests.
fn drop_bounding_set() -> io::Result<()> {
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // The kernel knows no more of them.
            Err(Errno::INVAL) if bit > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Giving up user 0 gives up every capability. This process has one thread, so that the thread's
/// user is the process's.
fn become_user(number: u32) -> io::Result<()> {
    umask(Mode::from_bits_retain(0o077));
    set_thread_groups(&[])?;
    let (group, user) = (Gid::from_raw(number), Uid::from_raw(number));
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

/// A role that was not taken on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// Its resources.
    #[error("cannot limit resources")]
    Limits(#[source] io::Error),
    /// The capabilities that are kept from it.
    #[error("cannot drop the bounding set")]
    Capabilities(#[source] io::Error),
    /// The user it runs as.
    #[error("cannot become its user")]
    User(#[source] io::Error),
    /// The system calls it may make.
    #[error("cannot filter system calls")]
    Filter(#[from] FilterError),
    /// Its program.
    #[error("cannot execute {}", program.display())]
    Execute {
        /// Its file.
        program: OsString,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
}

/// The number of its user and of its group.
pub(crate) const APPLICATION: u32 = 1000;
/// The image's second ramdisk.
const PROGRAM: &str = "/application";
/// Run by another PID than 1 it becomes what its arguments say.
const THIS_PROGRAM: &str = "/proc/self/exe";
const VOLUME: &str = "application-with-volume";
const BRIDGE: &str = "bridge";
/// The bridge's listening address: the port of NFS.
pub(crate) const BRIDGE_ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2049);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_arrives() {
        for role in [
            Role::Application,
            Role::ApplicationWithVolume,
            Role::Bridge { cid: 3, port: 2049 },
        ] {
            let command = role.command();
            let arguments = command
                .get_args()
                .map(|argument| argument.to_str().unwrap().to_owned());
            assert_eq!(Role::from_arguments(arguments), role);
        }
    }
}
