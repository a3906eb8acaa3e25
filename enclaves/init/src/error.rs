//! Boot errors.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use cloister_contract::pcr::BOOT_KEY;
use cloister_nsm::{Digest, NsmError};

use crate::command_line::InvalidCommandLine;

/// A failed boot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// Failed to mount a file system.
    #[error("failed to mount {target}")]
    Mount {
        /// The mount point.
        target: &'static str,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// Failed to read a file of the kernel, or to change its owner.
    #[error("failed to use {path}")]
    Read {
        /// The file's path.
        path: &'static str,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// Invalid command line.
    #[error("the kernel's command line is invalid")]
    CommandLine(#[from] InvalidCommandLine),
    /// Failed to load the image's driver of the NSM.
    #[error("failed to load /nsm.ko")]
    Module(#[source] io::Error),
    /// Failed to bring up the loopback interface.
    #[error("failed to bring up the loopback interface")]
    Loopback(#[source] io::Error),
    /// Failed to listen on the log's port.
    #[error("failed to listen for readers of the log")]
    LogPort(#[source] io::Error),
    /// Failed to open or describe the NSM.
    #[error("the NSM is unavailable")]
    Nsm(#[source] NsmError),
    /// Unsupported hash function of the NSM.
    #[error("the registers of the NSM are {0:?}, not SHA-384")]
    RegisterDigest(Digest),
    /// The command line sets the parent of an enclave on hardware.
    #[error(
        "command line sets parent CID {cid}, which is allowed only in an emulator (module id {module_id})"
    )]
    ForeignParent {
        /// The context id on the command line.
        cid: u32,
        /// The id of the NSM.
        module_id: String,
    },
    /// The parent did not answer the heartbeat.
    #[error("no heartbeat from the parent, context id {cid}")]
    Handshake {
        /// The parent's context id.
        cid: u32,
        /// The last attempt's error.
        #[source]
        source: io::Error,
    },
    /// The kernel's hardware random number generator is not the NSM.
    #[error("the kernel's random number generator is fed by `{0}`, not by the NSM")]
    RandomnessSource(String),
    /// The kernel's generator is not seeded in time.
    #[error("the kernel's random number generator is not seeded")]
    RandomnessNotReady,
    /// Failed to get randomness from the NSM.
    #[error("failed to get randomness from the NSM")]
    NsmRandomness(#[source] NsmError),
    /// Failed to get randomness from the kernel.
    #[error("failed to get randomness from the kernel")]
    KernelRandomness(#[source] getrandom::Error),
    /// The kernel's random bytes are all equal.
    #[error("the kernel's randomness is constant")]
    ConstantRandomness,
    /// Failed to get the time from the NSM.
    #[error("failed to get the time from the NSM")]
    Time(#[source] NsmError),
    /// Failed to set the clock.
    #[error("failed to set the clock")]
    Clock(#[source] io::Error),
    /// Failed to extend or lock the registers.
    #[error("failed to extend and lock the registers of the NSM")]
    Registers(#[source] NsmError),
    /// The boot key's register was extended before.
    #[error("PCR{BOOT_KEY} was not empty")]
    RegisterInUse,
    /// Failed to mount the volume that the command line names.
    #[error("failed to mount the volume {export} on the parent's port {port}")]
    Volume {
        /// The exported path.
        export: String,
        /// The parent's vsock port.
        port: u32,
        /// The cause.
        #[source]
        source: VolumeError,
    },
    /// Failed to start the application's process.
    #[error("failed to start the application")]
    Application(#[source] io::Error),
}

/// A volume that was not mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// Failed to start the bridge.
    #[error("failed to start the bridge")]
    Start(#[source] io::Error),
    /// The bridge exited before it accepted a connection.
    #[error("bridge exited: {0}")]
    Ended(ExitStatus),
    /// The kernel or the server refused.
    #[error("NFS server refused the mount")]
    Mount(#[source] io::Error),
    /// The server did not answer in time.
    #[error("no NFS server answered within {} s", MOUNT_DEADLINE.as_secs())]
    Deadline,
}

/// For the server to answer.
pub(crate) const MOUNT_DEADLINE: Duration = Duration::from_secs(30);
