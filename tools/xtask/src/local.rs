//! `cargo local`: builds everything, then becomes `cloister-local`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use cloister_toolchain::cargo;

/// Builds every program of the workspace and replaces this process with `cloister-local`. Returns
/// only on failure.
///
/// One build for all of them: building package by package would compile shared dependencies again
/// for every other set of features.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    if wants_emulation(arguments) {
        cloister_release::build_emulator()?;
        cloister_release::build_for_emulator()?;
    }
    cargo::build_programs()?;
    let error = Command::new(cargo::program("cloister-local"))
        .args(arguments)
        .exec();
    Err(error).context("failed to run cloister-local")
}

fn wants_emulation(arguments: &[OsString]) -> bool {
    arguments
        .iter()
        .any(|argument| argument == "--enclaves=emulated")
        || arguments
            .windows(2)
            .any(|pair| pair == ["--enclaves", "emulated"])
}
