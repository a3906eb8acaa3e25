//! `cargo xtask lambda`: the front door as the zip that AWS Lambda runs, the same bytes whoever
//! makes it where and when.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::build::target_directory;
use crate::debian;
use crate::image::{self, Architecture};
use crate::measured::{Program, Site};
use crate::newman;
use crate::run::succeed;
use crate::stack::LocalStack;

/// How `cargo xtask lambda` is called.
pub(crate) const USAGE: &str =
    "usage: cargo xtask lambda [--architecture amd64|arm64]      [amd64]";

/// Runs `cargo xtask lambda`.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let architecture = match arguments {
        [] => Architecture::default(),
        ["--architecture", name] => Architecture::parse(name)?,
        _ => return Err(USAGE.to_owned()),
    };
    println!("{}", package(architecture)?.display());
    Ok(())
}

/// The package as Lambda uses it: unpacked, started before a Runtime API, and called in every way
/// of the Postman collection.
pub(crate) fn test() -> Result<(), String> {
    let zip = package(Architecture::default())?;
    let unpacked = target_directory().join("lambda").join("unpacked");
    debian::require(&["unzip"])?;
    succeed(
        Command::new("unzip")
            .args(["-o", "-q"])
            .arg(&zip)
            .arg("-d")
            .arg(&unpacked),
    )?;
    let stack = LocalStack::start_with(&[
        "--front-door".as_ref(),
        unpacked.join("bootstrap").as_os_str(),
    ])?;
    newman::integration(&stack)
}

/// Builds the function as the measured programs are built, static and reproducible, and packs it;
/// returns the zip.
pub(crate) fn package(architecture: Architecture) -> Result<PathBuf, String> {
    let program = Site::here(image::directory().join("build"))?.build(&FRONT_DOOR, architecture)?;
    let directory = target_directory().join("lambda");
    let zip = directory.join(format!("front-door-{architecture}.zip"));
    pack(&program, &directory.join(architecture.name()), &zip)
        .map_err(|problem| format!("cannot make {}: {problem}", zip.display()))?;
    Ok(zip)
}

/// The `provided` runtimes start the file `bootstrap` of a function's package.
fn pack(program: &Path, work: &Path, zip: &Path) -> Result<(), String> {
    debian::require(&["zip"])?;
    let bootstrap = work.join("bootstrap");
    let prepare = || {
        fs::create_dir_all(work)?;
        fs::copy(program, &bootstrap)?;
        fs::set_permissions(&bootstrap, Permissions::from_mode(0o755))?;
        File::options()
            .write(true)
            .open(&bootstrap)?
            .set_modified(SystemTime::UNIX_EPOCH + EARLIEST)?;
        // `zip` adds to a file that it finds.
        if zip.exists() {
            fs::remove_file(zip)
        } else {
            Ok(())
        }
    };
    prepare().map_err(|error: std::io::Error| error.to_string())?;
    // Its times are local ones; without -X it would also write who owned the file.
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

/// 1 January 1980: a zip knows no earlier time.
const EARLIEST: Duration = Duration::from_secs(315_532_800);
