//! The life of PID 1, from the kernel's hand-over to the end of the enclave.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::panic;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use cloister_nsm::{Device, Digest, Nsm, NsmError};
use rustix::system::{RebootCommand, finit_module, reboot};
use serde_json::json;
use vsock::{VMADDR_CID_ANY, VsockListener};

use crate::application::Application;
use crate::command_line::{CommandLine, InvalidCommandLine};
use crate::log::{End, Log, chain};
use crate::sandbox::{Role, SandboxError};
use crate::volume::{Volume, VolumeError};
use crate::{boot_key, clock, entropy, loopback, mounts, parent, usage};

/// Boots the enclave, runs its application and ends the enclave with it. Only for PID 1; does not
/// return.
///
/// # Errors
/// None: whatever happens is logged and ends the enclave.
pub fn boot() -> Result<Infallible, SandboxError> {
    let log = Log::new();
    end_with_panics(&log);
    let end = match start(&log) {
        Ok((application, volume)) => application.wait(volume.as_ref()),
        Err(error) => End::BootFailed {
            error: chain(&error),
        },
    };
    finish(&log, &end)
}

/// Writes the last line, waits until somebody has read it, and stops the machine.
pub(crate) fn finish(log: &Log, end: &End) -> ! {
    log.end(end);
    log.wait_until_read(READ_DEADLINE);
    stop()
}

/// The hypervisor ends an enclave whose kernel reboots.
fn stop() -> ! {
    // A volume whose server is gone would keep it waiting for ever.
    let (synced, is_synced) = mpsc::channel();
    let _ = thread::Builder::new().spawn(move || {
        rustix::fs::sync();
        synced.send(())
    });
    let _ = is_synced.recv_timeout(SYNC_DEADLINE);
    let refused = reboot(RebootCommand::Restart);
    // PID 1 must not end either: the kernel panics then, and its command line says that a panic
    // reboots.
    eprintln!("reboot: {refused:?}");
    std::process::abort()
}

fn start(log: &Log) -> Result<(Application, Option<Volume>), BootError> {
    mounts::mount_all()?;
    let line = fs::read_to_string(COMMAND_LINE).map_err(|source| BootError::Read {
        path: COMMAND_LINE,
        source,
    })?;
    let line = CommandLine::parse(&line)?;
    if line.console {
        log.follow_on_console();
    }
    load_nsm_driver()?;
    loopback::up().map_err(BootError::Loopback)?;
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, LOG_PORT);
    log.serve(listener.map_err(BootError::LogPort)?);

    let nsm: Arc<dyn Nsm> = Arc::new(Device::open().map_err(BootError::Nsm)?);
    let description = nsm.describe().map_err(BootError::Nsm)?;
    if description.digest != Digest::Sha384 {
        return Err(BootError::RegisterDigest(description.digest));
    }
    let cid = parent::cid(&line, &description)?;
    parent::greet(cid)?;
    log.info(
        "the parent answers",
        json!({ "cid": cid, "module_id": description.module_id }),
    );

    entropy::require()?;
    clock::set(nsm.as_ref(), log)?;
    clock::keep(nsm.clone(), log.clone());
    let scalar = boot_key::make(nsm.as_ref(), description.max_pcrs)?;
    mounts::share_nsm().map_err(|source| BootError::Read {
        path: Device::PATH,
        source,
    })?;
    let volume = line
        .volume
        .map(|export| Volume::mount(&export, cid, log))
        .transpose()?;
    let role = if volume.is_some() {
        Role::ApplicationWithVolume
    } else {
        Role::Application
    };
    let application = Application::start(log, scalar, &role)?;
    log.info(
        "the application runs",
        json!({ "memory_available_kib": usage::available_memory() }),
    );
    usage::report(log.clone());
    Ok((application, volume))
}

/// Kernels that have the driver built in need no file.
fn load_nsm_driver() -> Result<(), BootError> {
    match fs::File::open(NSM_MODULE) {
        Ok(module) => {
            finit_module(module, c"", 0).map_err(|source| BootError::Module(source.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(BootError::Module(source)),
    }
}

/// A panic of any thread of init ends the enclave: what is left would not do its work.
fn end_with_panics(log: &Log) {
    let log = log.clone();
    panic::set_hook(Box::new(move |panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let log = log.clone();
        let end = End::InitFailed {
            error: format!("init panicked at {place}"),
        };
        // In a thread of its own, as the log may be what panicked and is locked.
        let _ = thread::Builder::new().spawn(move || finish(&log, &end));
        thread::sleep(2 * READ_DEADLINE);
        stop()
    }));
}

/// Why an enclave did not come to run its application.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// A file system.
    #[error("cannot mount {target}")]
    Mount {
        /// Where.
        target: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file of the kernel's.
    #[error("cannot use {path}")]
    Read {
        /// The file.
        path: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel's command line.
    #[error("the kernel's command line is refused")]
    CommandLine(#[from] InvalidCommandLine),
    /// The image's driver of the NSM.
    #[error("cannot load /nsm.ko")]
    Module(#[source] io::Error),
    /// The loopback interface.
    #[error("cannot take the loopback interface up")]
    Loopback(#[source] io::Error),
    /// The port of the log.
    #[error("cannot listen for readers of the log")]
    LogPort(#[source] io::Error),
    /// The NSM does not work.
    #[error("the NSM does not answer")]
    Nsm(#[source] NsmError),
    /// The NSM hashes with something else than everything here expects.
    #[error("the registers of the NSM are {0:?}, not SHA-384")]
    RegisterDigest(Digest),
    /// The command line moves the parent of what is no emulator.
    #[error("the command line names the parent {cid}, but {module_id} is no emulator")]
    ForeignParent {
        /// The context id on the command line.
        cid: u32,
        /// What the NSM calls itself.
        module_id: String,
    },
    /// The parent did not answer.
    #[error("no heartbeat from the parent, context id {cid}")]
    Handshake {
        /// The parent's context id.
        cid: u32,
        /// What the last attempt failed with.
        #[source]
        source: io::Error,
    },
    /// The kernel's hardware random number generator is not the NSM.
    #[error("the kernel draws randomness from `{0}`, not from the NSM")]
    RandomnessSource(String),
    /// The kernel's generator is not ready.
    #[error("the kernel's random number generator is not seeded")]
    RandomnessNotReady,
    /// The NSM gives no randomness.
    #[error("the NSM gives no randomness")]
    NsmRandomness(#[source] NsmError),
    /// The kernel gives no randomness.
    #[error("the kernel gives no randomness")]
    KernelRandomness(#[source] getrandom::Error),
    /// What it gives is none.
    #[error("the kernel's randomness is constant")]
    ConstantRandomness,
    /// The NSM does not tell the time.
    #[error("the NSM does not tell the time")]
    Time(#[source] NsmError),
    /// The clock cannot be set.
    #[error("the clock cannot be set")]
    Clock(#[source] io::Error),
    /// The registers cannot be extended or locked.
    #[error("the registers of the NSM cannot be extended and locked")]
    Registers(#[source] NsmError),
    /// The boot key's register was extended before.
    #[error("PCR16 was not empty")]
    RegisterInUse,
    /// The volume that the command line names.
    #[error("the volume {export} on the parent's port {port} cannot be mounted")]
    Volume {
        /// What the server calls the directory.
        export: String,
        /// The parent's vsock port.
        port: u32,
        /// Why.
        #[source]
        source: VolumeError,
    },
    /// The application's process cannot be made.
    #[error("the application cannot be started")]
    Application(#[source] io::Error),
}

const COMMAND_LINE: &str = "/proc/cmdline";
/// Of kernels whose driver of the NSM is a module.
const NSM_MODULE: &str = "/nsm.ko";
/// The vsock port of the log.
const LOG_PORT: u32 = 5001;
/// How long the last line waits for a reader.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// How long what was written to a volume may take to arrive.
const SYNC_DEADLINE: Duration = Duration::from_secs(10);
