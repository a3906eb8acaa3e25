//! The second life of this program: it gives up everything the application has no use for, and becomes the application.
//!
//! What is given up cannot be regained, so the order is: limits and capabilities while there is the right to, then the user, then the
//! system calls.

mod filter;

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit, umask};
use rustix::thread::{
    CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

pub use filter::{FilterError, install};

/// Replaces this process with the application. Returns only if that is impossible.
///
/// # Errors
/// [`SandboxError`].
pub fn become_application() -> Result<Infallible, SandboxError> {
    limit_resources().map_err(SandboxError::Limits)?;
    drop_bounding_set().map_err(SandboxError::Capabilities)?;
    become_user().map_err(SandboxError::User)?;
    set_no_new_privs(true).map_err(|source| SandboxError::User(source.into()))?;
    install()?;
    // The filter has to let this one system call pass, hence the application may make it as well. It gains nothing: there are two
    // programs in the image, this one and itself, it can write neither, and what it executes inherits user, limits and filter.
    Err(SandboxError::Execute(Command::new(PROGRAM).env_clear().exec()))
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
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    Ok(())
}

/// No program that is executed from here on, whatever its file says, can have a capability.
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

/// Giving up user 0 gives up every capability. This process has one thread, so that the thread's user is the process's.
fn become_user() -> io::Result<()> {
    umask(Mode::from_bits_retain(0o077));
    set_thread_groups(&[])?;
    let (group, user) = (Gid::from_raw(APPLICATION), Uid::from_raw(APPLICATION));
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

/// Why the application does not run.
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
    #[error("cannot become the application's user")]
    User(#[source] io::Error),
    /// The system calls it may make.
    #[error("cannot filter system calls")]
    Filter(#[from] FilterError),
    /// Its program.
    #[error("cannot execute {PROGRAM}")]
    Execute(#[source] io::Error),
}

/// The number of its user and of its group.
pub(crate) const APPLICATION: u32 = 1000;
/// The image's second ramdisk.
const PROGRAM: &str = "/application";
