//! Packages from npm, each set in the directory that its lock file lies in.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::build::cloister_local;
use crate::run::succeed;

/// `npm ci` in `directory`, unless that is what was done there last. No install script runs: no
/// package needs one.
pub(crate) fn install(directory: &Path) -> Result<(), String> {
    let lock = directory.join("package-lock.json");
    let lock =
        fs::read(&lock).map_err(|error| format!("cannot read {}: {error}", lock.display()))?;
    // npm empties the directory before it installs, so a broken installation has no such file.
    let installed = directory.join("node_modules").join(".installed-lock.json");
    if fs::read(&installed).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let flags = [
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ];
    // Two more tries within seconds; npm's own pauses keep a machine without a network waiting for
    // minutes.
    let patience = [
        "--fetch-retry-mintimeout=1000",
        "--fetch-retry-maxtimeout=3000",
    ];
    succeed(npm().current_dir(directory).args(flags).args(patience))?;
    fs::write(&installed, lock)
        .map_err(|error| format!("cannot write {}: {error}", installed.display()))
}

/// `npm`.
pub(crate) fn npm() -> Command {
    program("npm")
}

/// `node`.
pub(crate) fn node() -> Command {
    program("node")
}

/// The laptop stack knows where node is, and how to get one; it has to be built.
fn program(name: &str) -> Command {
    let mut command = Command::new(cloister_local());
    command.arg(name);
    command
}
