//! `cargo xtask lambda`: the front door as the zip that AWS Lambda runs, with the same bytes on
//! every machine.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use cloister_contract::Architecture;
use cloister_toolchain::cargo::target_directory;
use cloister_toolchain::command::succeed;
use cloister_toolchain::debian;
use fs_err as fs;

use crate::measured::{BuildEnvironment, Program};

/// Builds the function as the measured programs are built, static and reproducible, and packs it;
/// returns the zip.
///
/// # Errors
/// If it cannot be built.
pub fn package(architecture: Architecture) -> Result<PathBuf> {
    let program = BuildEnvironment::here()?.build(&FRONT_DOOR, architecture)?;
    let directory = target_directory().join("lambda");
    let zip = directory.join(format!("front-door-{architecture}.zip"));
    pack(&program, &directory.join(architecture.name()), &zip)?;
    Ok(zip)
}

/// The `provided` runtimes start the file `bootstrap` of a function's package.
fn pack(program: &Path, work: &Path, zip: &Path) -> Result<()> {
    debian::require(&["zip"])?;
    let bootstrap = work.join("bootstrap");
    fs::create_dir_all(work)?;
    fs::copy(program, &bootstrap)?;
    fs::set_permissions(&bootstrap, Permissions::from_mode(0o755))?;
    fs::OpenOptions::new()
        .write(true)
        .open(&bootstrap)?
        .file()
        .set_modified(SystemTime::UNIX_EPOCH + EARLIEST)?;
    // `zip` would add to an existing file.
    if zip.exists() {
        fs::remove_file(zip)?;
    }
    // Its times are local ones; without -X it would also store the file's owner.
    let mut pack = Command::new("zip");
    pack.current_dir(work)
        .env("TZ", "UTC")
        .args(["-X", "-9", "-q"])
        .arg(zip)
        .arg("bootstrap");
    succeed(&mut pack)
}

const FRONT_DOOR: Program = Program {
    name: "front-door",
    package: "cloister-lambdas",
    binary: "front-door",
};

/// 1 January 1980, the earliest time of a zip.
const EARLIEST: Duration = Duration::from_secs(315_532_800);
