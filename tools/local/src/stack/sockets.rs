//! The directory of unix sockets and address files. The path of a unix socket has at most 107
//! bytes, so its own path must be short whatever TMPDIR is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// A private directory in the first of the usual places whose path is short enough. Removed when
/// dropped.
///
/// # Errors
/// If all of them are too long or missing.
pub(super) fn directory() -> anyhow::Result<TempDir> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let places = [Some(std::env::temp_dir()), runtime, Some("/tmp".into())];
    in_one_of(places.into_iter().flatten())
}

fn in_one_of(places: impl Iterator<Item = PathBuf>) -> anyhow::Result<TempDir> {
    let mut tried = Vec::new();
    for place in places {
        if fits(&place) && place.is_dir() {
            let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&place);
            return directory.with_context(|| format!("failed to write to {}", place.display()));
        }
        tried.push(place.display().to_string());
    }
    bail!(
        "no directory for unix sockets: set TMPDIR to one whose path has at most {} bytes (tried {})",
        LONGEST_PLACE,
        tried.join(", ")
    )
}

fn fits(place: &Path) -> bool {
    OsStr::as_bytes(place.as_os_str()).len() <= LONGEST_PLACE
}

const PREFIX: &str = "cloister-";
/// `sun_path` without its terminating zero: unix(7).
const LONGEST_SOCKET: usize = 107;
/// The longest name in the directory: the vsock device's socket for the parent's port 9000.
const LONGEST_NAME: &str = "another-signer-enclave.vsock_9000";
/// Directory, separator, prefix with six random characters, separator, name.
const LONGEST_PLACE: usize = LONGEST_SOCKET - (1 + PREFIX.len() + 6 + 1 + LONGEST_NAME.len());

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn long_places_are_passed_over() {
        let base = tempfile::tempdir_in("/tmp").unwrap();
        let long = base.path().join("x".repeat(100));
        std::fs::create_dir(&long).unwrap();
        let places = [
            long.clone(),
            PathBuf::from("/nowhere"),
            base.path().to_owned(),
        ];
        let directory = in_one_of(places.into_iter()).unwrap();
        assert_eq!(directory.path().parent(), Some(base.path()));

        let refused = in_one_of([long].into_iter()).unwrap_err().to_string();
        assert!(refused.contains("set TMPDIR"), "{refused}");
        assert_eq!(refused.lines().count(), 1);
    }

    #[test]
    fn the_longest_socket_can_be_bound_in_the_longest_place() {
        let base = tempfile::tempdir_in("/tmp").unwrap();
        let missing = LONGEST_PLACE - base.path().as_os_str().len() - 1;
        let place = base.path().join("x".repeat(missing));
        std::fs::create_dir(&place).unwrap();
        let directory = in_one_of([place].into_iter()).unwrap();
        UnixListener::bind(directory.path().join(LONGEST_NAME)).unwrap();
        let longer = directory.path().join(format!("{LONGEST_NAME}0"));
        assert!(UnixListener::bind(longer).is_err());
    }
}
