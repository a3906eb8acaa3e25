//! `cargo xtask image --check-reproducible`: builds in two places give the same bytes and
//! measurements.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use cloister_contract::Architecture;
use cloister_toolchain::cargo::workspace_root;
use cloister_toolchain::command::output;
use cloister_toolchain::sha256_of_tree;
use fs_err as fs;

use crate::image_tool;
use crate::kernel::Kernels;
use crate::measured::{self, BuildEnvironment};
use crate::paths;
use crate::release::Inputs;

/// Builds the measured programs and the images here and in a copy of the sources, and compares
/// every file.
///
/// The copy has another path and other times; its builder has another name, home, cargo directory,
/// language, time zone and umask. Its build is kept, so that the next check builds only what
/// changed.
///
/// # Errors
/// If something cannot be built or differs.
pub fn check(architecture: Architecture) -> Result<()> {
    let root = paths::directory().join(format!("twice-{architecture}"));
    let here = BuildEnvironment::here()?;
    let there = elsewhere(&here, &root)?;
    let kernel = Kernels::get(architecture)?.release;
    let settings = workspace_root().join(paths::EXAMPLE_SETTINGS);
    let outputs = ["here", "there"].map(|name| root.join(name));
    for (environment, output) in [&here, &there].into_iter().zip(&outputs) {
        fs::create_dir_all(output)?;
        let cmdline = paths::command_line("production");
        let inputs = Inputs::build(environment, architecture, measured::APPLICATIONS, cmdline)?;
        fs::copy(&inputs.init, output.join("init"))?;
        for (name, program) in &inputs.applications {
            fs::copy(program, output.join(name))?;
        }
        let release = output.join("release");
        inputs.make_release(&kernel, &release)?;
        image_tool::assemble(&release, &settings, &output.join("images"), None)?;
    }
    compare(&outputs[0], &outputs[1])
}

/// Another place to build in.
fn elsewhere(here: &BuildEnvironment, root: &Path) -> Result<BuildEnvironment> {
    let workspace = root.join("a-builder-with-another-name/checkout");
    copy_sources(&workspace)?;
    let home = root.join("home");
    let cargo_home = home.join("cargo");
    let registry = cargo_home.join("registry");
    fs::create_dir_all(&registry)?;
    // Crates are downloaded once and unpacked twice.
    for part in ["cache", "index"] {
        let link = registry.join(part);
        if !link.is_symlink() {
            symlink(here.cargo_home.join("registry").join(part), &link)
                .with_context(|| format!("failed to create {}", link.display()))?;
        }
    }
    let rustup_home = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let rustup_home = rustup_home
        .or_else(|| Some(std::env::home_dir()?.join(".rustup")))
        .context("there is no home directory: set RUSTUP_HOME")?;
    Ok(BuildEnvironment {
        target: root.join("another-target"),
        workspace,
        zig: here.zig.clone(),
        cargo_home,
        variables: vec![
            ("HOME", home.into()),
            ("RUSTUP_HOME", rustup_home.into()),
            ("CARGO_NET_OFFLINE", "true".into()),
            ("USER", "somebody-else".into()),
            ("LANG", "tr_TR.UTF-8".into()),
            ("TZ", "Pacific/Kiritimati".into()),
        ],
        umask: "077",
    })
}

/// Copies the files that git lists or would list if they were added, and deletes those that are
/// gone.
fn copy_sources(destination: &Path) -> Result<()> {
    let source = workspace_root();
    let mut git = Command::new("git");
    git.current_dir(source).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let listing = output(&mut git).context("only a git checkout can be built twice")?;
    let wanted: BTreeSet<&str> = listing
        .split_terminator('\0')
        .filter(|path| source.join(path).is_file())
        .collect();
    fs::create_dir_all(destination)?;
    for present in sha256_of_tree(destination)?.keys() {
        if !wanted.contains(present.as_str()) {
            fs::remove_file(destination.join(present))?;
        }
    }
    for path in wanted {
        copy_if_changed(&source.join(path), &destination.join(path))?;
    }
    Ok(())
}

/// An unchanged file keeps its time, by which cargo decides what has to be built.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let content = fs::read(from)?;
    if fs::read(to).is_ok_and(|present| present == content) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(to, content)?)
}

fn compare(first: &Path, second: &Path) -> Result<()> {
    let (hashes, others) = (sha256_of_tree(first)?, sha256_of_tree(second)?);
    let (first, second) = (first.display(), second.display());
    if !hashes.keys().eq(others.keys()) {
        bail!("{first} and {second} have different files");
    }
    let differing: Vec<_> = hashes
        .iter()
        .filter(|(name, hash)| others.get(*name) != Some(hash))
        .map(|(name, _)| name.as_str())
        .collect();
    if !differing.is_empty() {
        bail!(
            "built twice, these differ (in {first} and {second}): {}",
            differing.join(", ")
        );
    }
    println!(
        "{} files, built twice in different places, are equal: binaries, release, images, measurements",
        hashes.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_differs_is_named() {
        let root = paths::directory().join(format!("compare-{}", std::process::id()));
        let [first, second] = ["first", "second"].map(|name| root.join(name));
        for directory in [&first, &second] {
            fs::create_dir_all(directory.join("release")).unwrap();
            fs::write(directory.join("release/kernel"), "same").unwrap();
            fs::write(directory.join("signer"), "same").unwrap();
        }
        compare(&first, &second).unwrap();
        fs::write(second.join("signer"), "other").unwrap();
        let error = compare(&first, &second).unwrap_err().to_string();
        assert!(error.ends_with(": signer"), "{error}");
        fs::write(second.join("extra"), "").unwrap();
        let error = compare(&first, &second).unwrap_err().to_string();
        assert!(error.ends_with("have different files"), "{error}");
        fs::remove_dir_all(root).unwrap();
    }
}
