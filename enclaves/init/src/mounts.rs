//! Mounts the file systems of an enclave: all are in memory or the kernel's own.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};

use rustix::mount::{MountFlags, mount, mount_remount};

use crate::error::BootError;
use crate::sandbox::APPLICATION;

/// Mounts what init and the application need, and makes everything else read-only.
///
/// # Errors
/// [`BootError::Mount`].
pub(crate) fn mount_all() -> Result<(), BootError> {
    let nothing_runs = MountFlags::NOSUID | MountFlags::NOEXEC;
    for (kind, target, flags, data) in [
        // The application sees only its own processes.
        (
            "proc",
            "/proc",
            nothing_runs | MountFlags::NODEV,
            Some(c"hidepid=2"),
        ),
        (
            "sysfs",
            "/sys",
            nothing_runs | MountFlags::NODEV | MountFlags::RDONLY,
            None,
        ),
        ("devtmpfs", "/dev", nothing_runs, None),
    ] {
        let mounted = create_dir(target).and_then(|()| Ok(mount(kind, target, kind, flags, data)?));
        mounted.map_err(|source| BootError::Mount { target, source })?;
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount("/", flags, c"").map_err(|source| BootError::Mount {
        target: "/",
        source: source.into(),
    })
}

fn create_dir(path: &str) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Gives the application access to the NSM.
///
/// # Errors
/// The kernel's.
pub(crate) fn share_nsm() -> io::Result<()> {
    let path = cloister_nsm::Device::PATH;
    chown(path, Some(0), Some(APPLICATION))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))
}
