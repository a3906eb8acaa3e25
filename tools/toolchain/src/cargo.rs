//! cargo: builds are silent if nothing has to be built, and show cargo's progress otherwise.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Builds every program of the workspace.
///
/// # Errors
/// If the build fails.
pub fn build_programs() -> Result<()> {
    build(cargo().args(["build", "--workspace", "--bins", "--locked"]))
}

/// Runs a build by cargo.
///
/// # Errors
/// If the build fails; the error has advice if the cause is known.
pub fn build(cargo: &mut Command) -> Result<()> {
    cargo.stderr(Stdio::piped());
    if io::stderr().is_terminal() {
        // A piped cargo draws neither colours nor its progress bar unless asked to.
        cargo
            .args(["--color", "always"])
            .env("CARGO_TERM_PROGRESS_WHEN", "always")
            .env("CARGO_TERM_PROGRESS_WIDTH", "80");
    }
    let mut child = cargo.spawn().context("failed to run cargo")?;
    let stderr = child.stderr.take().expect("stderr was set to be a pipe");
    let output = show_once_something_is_built(stderr);
    if child.wait().context("failed to run cargo")?.success() {
        return Ok(());
    }
    match advice(&output) {
        Some(advice) => bail!("\nThe build failed. {advice}"),
        None => bail!("\nThe build failed; cargo's output is above."),
    }
}

/// `cargo`, the one that started this program, in the workspace's root.
pub fn cargo() -> Command {
    let mut command =
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(workspace_root());
    command
}

/// The root of the workspace.
pub fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("this package lies two levels below the root")
}

/// The directory of build artefacts: this program is in `TARGET/debug/`, a test in
/// `TARGET/debug/deps/`.
pub fn target_directory() -> PathBuf {
    let own = std::env::current_exe().ok();
    let directory = own.as_deref().and_then(Path::parent);
    let profile = match directory {
        Some(directory) if directory.ends_with("deps") => directory.parent(),
        directory => directory,
    };
    let target = profile.and_then(Path::parent);
    target.map_or_else(|| workspace_root().join("target"), Path::to_path_buf)
}

/// A program of the workspace, after [`build_programs`].
pub fn program(name: &str) -> PathBuf {
    target_directory().join("debug").join(name)
}

/// Copies cargo's messages to standard error from the moment it compiles (or complains about)
/// something; returns all of them. A build with nothing to do stays silent.
fn show_once_something_is_built(mut messages: impl Read) -> String {
    let mut seen = Vec::new();
    let mut shown = 0;
    let mut showing = false;
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = messages.read(&mut chunk) {
        seen.extend_from_slice(&chunk[..length]);
        showing = showing
            || WORTH_SHOWING
                .iter()
                .any(|word| contains(&seen, word.as_bytes()));
        if showing {
            // Nothing can be done about a terminal that went away.
            let _ = io::stderr().write_all(&seen[shown..]);
            shown = seen.len();
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// Advice for the failures that a fresh machine is likely to show.
fn advice(output: &str) -> Option<&'static str> {
    ADVICE
        .iter()
        .find(|(sign, _)| output.contains(sign))
        .map(|(_, advice)| *advice)
}

const WORTH_SHOWING: &[&str] = &[
    "Compiling",
    "Downloading",
    "Updating",
    "Blocking",
    "error",
    "warning",
];

const ADVICE: &[(&str, &str)] = &[
    (
        "linker `cc` not found",
        "There is no C compiler: on Debian and Ubuntu, `apt-get install gcc libc6-dev`.",
    ),
    (
        "Missing dependency: cmake",
        "CMake is missing: on Debian and Ubuntu, `apt-get install cmake`.",
    ),
    (
        "is `cmake` not installed?",
        "CMake is missing: on Debian and Ubuntu, `apt-get install cmake`.",
    ),
    (
        "failed to find tool \"cc\"",
        "There is no C compiler: on Debian and Ubuntu, `apt-get install gcc libc6-dev`.",
    ),
    (
        "failed to find tool \"ar\"",
        "The binary utilities are missing: on Debian and Ubuntu, `apt-get install binutils`.",
    ),
    (
        "fatal error: stdio.h",
        "The C library's headers are missing: on Debian and Ubuntu, `apt-get install libc6-dev`.",
    ),
    (
        "No space left on device",
        "The disk is full; the build needs about 6 GB under `target`.",
    ),
    (
        "Could not resolve host",
        "The network cannot be reached; the first build downloads crates from crates.io.",
    ),
    (
        "failed to download",
        "The network cannot be reached; the first build downloads crates from crates.io.",
    ),
    (
        "(signal: 9, SIGKILL",
        "The compiler was killed, most likely for lack of memory; `CARGO_BUILD_JOBS=1` needs less.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_compiler_names_the_packages() {
        let advice = advice("error: linker `cc` not found\n  = note: No such file").unwrap();
        assert!(advice.contains("apt-get install gcc libc6-dev"));
        assert_eq!(super::advice("error[E0308]: mismatched types"), None);
    }

    #[test]
    fn a_test_finds_the_target_directory() {
        // cargo writes this file into the directory itself.
        assert!(target_directory().join("CACHEDIR.TAG").is_file());
    }

    #[test]
    fn all_messages_are_kept() {
        let messages = "   Compiling a v1.0.0\n    Finished `dev` profile\n";
        assert_eq!(show_once_something_is_built(messages.as_bytes()), messages);
    }
}
