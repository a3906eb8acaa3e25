//! Boots the enclave: every step from the kernel's hand-over to the running application.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::sync::Arc;

use cloister_contract::ErrorChain;
use cloister_contract::enclave_log::{End, InitEvent};
use cloister_contract::ports;
use cloister_nsm::{Device, Digest, Nsm};
use rustix::system::finit_module;
use vsock::{VMADDR_CID_ANY, VsockListener};

use crate::application::Application;
use crate::command_line::{self, CommandLine};
use crate::end;
use crate::error::BootError;
use crate::log::{self, Log};
use crate::sandbox::{Role, SandboxError};
use crate::volume::Volume;
use crate::{boot_key, clock, entropy, loopback, mounts, parent, usage};

/// Boots the enclave, runs its application and ends the enclave with it. Only for PID 1; does not
/// return.
///
/// # Errors
/// None: every error is logged and ends the enclave.
pub fn boot() -> Result<Infallible, SandboxError> {
    let log = Log::new();
    end::with_panics(&log);
    let end = match start(&log) {
        Ok((application, volume)) => application.wait(volume.as_ref()),
        Err(error) => failed(&error),
    };
    end::finish(&log, end)
}

fn start(log: &Log) -> Result<(Application, Option<Volume>), BootError> {
    mounts::mount_all()?;
    let text = read(COMMAND_LINE)?;
    let line = CommandLine::parse(&text)?;
    if line.console {
        log::follow_on_console(log);
    }
    load_nsm_driver()?;
    loopback::up().map_err(BootError::Loopback)?;
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, ports::LOG);
    log::serve(log, listener.map_err(BootError::LogPort)?);

    let nsm: Arc<dyn Nsm> = Arc::new(Device::open().map_err(BootError::Nsm)?);
    let description = nsm.describe().map_err(BootError::Nsm)?;
    if description.digest != Digest::Sha384 {
        return Err(BootError::RegisterDigest(description.digest));
    }
    let emulator = parent::is_emulator(&description);
    command_line::require_measured(&text, &read(MEASURED_COMMAND_LINE)?, emulator)?;
    let cid = parent::cid(&line, &description)?;
    parent::greet(cid)?;
    log.event(InitEvent::ParentAnswered {
        cid,
        module_id: description.module_id,
    });

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
    log.event(InitEvent::ApplicationStarted {
        memory_available_kib: usage::available_memory(),
    });
    usage::report(log);
    Ok((application, volume))
}

fn failed(error: &BootError) -> End {
    End::BootFailed {
        error: ErrorChain(error).to_string(),
    }
}

fn read(path: &'static str) -> Result<String, BootError> {
    fs::read_to_string(path).map_err(|source| BootError::Read { path, source })
}

/// Kernels with a built-in driver have no file to load.
fn load_nsm_driver() -> Result<(), BootError> {
    match fs::File::open(NSM_MODULE) {
        Ok(module) => {
            finit_module(module, c"", 0).map_err(|source| BootError::Module(source.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(BootError::Module(source)),
    }
}

/// The line that the kernel was started with.
const COMMAND_LINE: &str = "/proc/cmdline";
/// The line of the image, which the image tool puts into the first ramdisk as well.
const MEASURED_COMMAND_LINE: &str = "/cmdline";
/// Of kernels whose driver of the NSM is a module.
const NSM_MODULE: &str = "/nsm.ko";

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_failed_boot_ends_with_every_cause() {
        let log = Log::new();
        log.end(failed(&BootError::Read {
            path: MEASURED_COMMAND_LINE,
            source: io::Error::other("it is gone"),
        }));
        let line: Value = serde_json::from_slice(&log.lines()[0]).unwrap();
        assert_eq!(line["event"], "enclave_ended");
        assert_eq!(line["reason"], "boot_failed");
        assert_eq!(line["error"], "failed to use /cmdline: it is gone");
    }
}
