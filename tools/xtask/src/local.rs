//! `cargo local`: build everything, then become `cloister-local`.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::build;
use crate::emulator::Emulator;
use crate::image;

/// Builds every program of the workspace and replaces this process with `cloister-local`. Returns
/// only on failure.
///
/// One build for all of them: building package by package would compile shared dependencies again
/// for every other set of features.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    if wants_emulation(arguments) {
        Emulator::kept()?;
        image::build_for_emulator()?;
    }
    build::programs()?;
    let program = build::cloister_local();
    let error = Command::new(&program).args(arguments).exec();
    Err(format!("cannot start {}: {error}", program.display()))
}

fn wants_emulation(arguments: &[&str]) -> bool {
    arguments.contains(&"--enclaves=emulated")
        || arguments
            .windows(2)
            .any(|pair| pair == ["--enclaves", "emulated"])
}
