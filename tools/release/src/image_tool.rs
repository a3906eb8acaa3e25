//! `cloister-image`, which writes releases and images; a workspace of its own in `tools/image`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use cloister_toolchain::cargo::{self, target_directory};
use cloister_toolchain::command::succeed;
use cloister_toolchain::debian;

/// Its manifest, relative to the workspace's root.
pub const MANIFEST: &str = "tools/image/Cargo.toml";

/// cargo in the image tool's workspace.
///
/// # Errors
/// If OpenSSL, which the image format's crate links, is missing.
pub fn cargo(arguments: &[&str]) -> Result<Command> {
    debian::require(&["libssl-dev", "pkg-config"])?;
    let mut cargo = cargo::cargo();
    cargo
        .args(arguments)
        .args(["--locked", "--manifest-path", MANIFEST]);
    // Shared, so that AWS-LC and other equal dependencies are compiled once.
    cargo.env("CARGO_TARGET_DIR", target_directory());
    Ok(cargo)
}

/// The tool, built if something changed.
pub(crate) fn command() -> Result<Command> {
    cargo::build(&mut cargo(&["build"])?)?;
    Ok(Command::new(path()))
}

pub(crate) fn path() -> PathBuf {
    cargo::program("cloister-image")
}

/// Makes the images of a deployment from a release.
pub(crate) fn assemble(
    release: &Path,
    settings: &Path,
    output: &Path,
    signature: Option<(&Path, &Path)>,
) -> Result<()> {
    let mut tool = command()?;
    tool.args(["assemble", "--release"])
        .arg(release)
        .arg("--settings")
        .arg(settings)
        .arg("--output")
        .arg(output);
    if let Some((certificate, key)) = signature {
        tool.arg("--certificate")
            .arg(certificate)
            .arg("--key")
            .arg(key);
    }
    succeed(&mut tool)
}
