//! `cargo xtask image --check-reproducible`: the same bytes and measurements, whoever builds them
//! where and when.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::workspace_root;
use crate::digest::sha256_of_file;
use crate::image::{self, Architecture, Parts};
use crate::kernel::Kernels;
use crate::measured::{self, Site};

/// Builds the measured programs and the images here and in a copy of the sources, and compares
/// every file.
///
/// The copy has another path and other times, its builder another name, home, cargo directory,
/// language, time zone and umask. Its build is kept, so that a second check builds only what
/// changed in between.
pub(crate) fn check(architecture: Architecture) -> Result<(), String> {
    let root = image::directory().join(format!("twice-{architecture}"));
    let here = Site::here(image::directory().join("build"))?;
    let there = elsewhere(&here, &root)?;
    let kernel = Kernels::kept(architecture)?.release;
    let settings = workspace_root().join(image::EXAMPLE_SETTINGS);
    let outputs = ["here", "there"].map(|name| root.join(name));
    for (site, output) in [&here, &there].into_iter().zip(&outputs) {
        create(output)?;
        let cmdline = image::command_line("production");
        let parts = Parts::build(
            site,
            architecture,
            measured::APPLICATIONS,
            kernel.clone(),
            cmdline,
        )?;
        for (name, program) in parts
            .applications
            .iter()
            .chain([&("init".to_owned(), parts.init.clone())])
        {
            let copy = output.join(name);
            fs::copy(program, &copy)
                .map_err(|error| format!("cannot copy {}: {error}", program.display()))?;
        }
        parts.release(&output.join("release"))?;
        image::assemble(
            &output.join("release"),
            &settings,
            &output.join("images"),
            None,
        )?;
    }
    compare(&outputs[0], &outputs[1])
}

/// Another place to build in.
fn elsewhere(here: &Site, root: &Path) -> Result<Site, String> {
    let workspace = root.join("a-builder-with-another-name/checkout");
    copy_sources(&workspace)?;
    let home = root.join("home");
    let cargo_home = home.join("cargo");
    let registry = cargo_home.join("registry");
    create(&registry)?;
    // What was downloaded once is enough; it is unpacked anew.
    for part in ["cache", "index"] {
        let link = registry.join(part);
        if !link.is_symlink() {
            symlink(here.cargo_home.join("registry").join(part), &link)
                .map_err(|error| format!("cannot create {}: {error}", link.display()))?;
        }
    }
    let rustup_home = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let rustup_home = rustup_home.or_else(|| Some(std::env::home_dir()?.join(".rustup")));
    Ok(Site {
        target: root.join("another-target"),
        workspace,
        zig: here.zig.clone(),
        cargo_home,
        variables: vec![
            ("HOME", home.into()),
            (
                "RUSTUP_HOME",
                rustup_home
                    .ok_or("there is no home directory: set RUSTUP_HOME")?
                    .into(),
            ),
            ("CARGO_NET_OFFLINE", "true".into()),
            ("USER", "somebody-else".into()),
            ("LANG", "tr_TR.UTF-8".into()),
            ("TZ", "Pacific/Kiritimati".into()),
        ],
        umask: "077",
    })
}

/// Copies what git knows of (or would, if it were added), and deletes what has gone since.
fn copy_sources(destination: &Path) -> Result<(), String> {
    let source = workspace_root();
    let listing = Command::new("git")
        .current_dir(source)
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .map_err(|error| format!("git does not start: {error}"))?;
    if !listing.status.success() {
        return Err(
            "the sources are copied as git lists them, and this is no git checkout".to_owned(),
        );
    }
    let listing = String::from_utf8(listing.stdout)
        .map_err(|_| "git lists a file whose name is not UTF-8".to_owned())?;
    let wanted: Vec<&Path> = listing
        .split_terminator('\0')
        .map(Path::new)
        .filter(|path| source.join(path).is_file())
        .collect();
    create(destination)?;
    for present in files(destination)? {
        if !wanted.contains(&present.as_path()) {
            fs::remove_file(destination.join(&present))
                .map_err(|error| format!("cannot remove {}: {error}", present.display()))?;
        }
    }
    for path in wanted {
        copy_if_changed(&source.join(path), &destination.join(path))
            .map_err(|error| format!("cannot copy {}: {error}", path.display()))?;
    }
    Ok(())
}

/// An unchanged file keeps its time, by which cargo tells what has to be built.
fn copy_if_changed(from: &Path, to: &Path) -> std::io::Result<()> {
    let content = fs::read(from)?;
    if fs::read(to).is_ok_and(|present| present == content) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(to, content)
}

fn compare(first: &Path, second: &Path) -> Result<(), String> {
    let (names, others) = (files(first)?, files(second)?);
    if names != others {
        return Err(format!(
            "{} and {} hold different files",
            first.display(),
            second.display()
        ));
    }
    let mut differing = Vec::new();
    for name in &names {
        if sha256_of_file(&first.join(name))? != sha256_of_file(&second.join(name))? {
            differing.push(name.display().to_string());
        }
    }
    if differing.is_empty() {
        println!(
            "{} files, built twice in different places, are the same: binaries, release, images, measurements",
            names.len()
        );
        return Ok(());
    }
    Err(format!(
        "built twice, these differ (in {} and {}): {}",
        first.display(),
        second.display(),
        differing.join(", ")
    ))
}

/// The files below a directory, relative to it and sorted.
fn files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        let problem = |error| format!("cannot read {}: {error}", next.display());
        for entry in fs::read_dir(&next).map_err(problem)? {
            let path = entry.map_err(problem)?.path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.push(
                    path.strip_prefix(directory)
                        .expect("it was found below")
                        .to_owned(),
                );
            }
        }
    }
    found.sort();
    Ok(found)
}

fn create(directory: &Path) -> Result<(), String> {
    fs::create_dir_all(directory)
        .map_err(|error| format!("cannot create {}: {error}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_differs_is_named() {
        let root = image::directory().join(format!("compare-{}", std::process::id()));
        let [first, second] = ["first", "second"].map(|name| root.join(name));
        for directory in [&first, &second] {
            create(&directory.join("release")).unwrap();
            fs::write(directory.join("release/kernel"), "same").unwrap();
            fs::write(directory.join("signer"), "same").unwrap();
        }
        assert_eq!(compare(&first, &second), Ok(()));
        fs::write(second.join("signer"), "other").unwrap();
        assert!(compare(&first, &second).unwrap_err().ends_with(": signer"));
        fs::write(second.join("extra"), "").unwrap();
        assert!(
            compare(&first, &second)
                .unwrap_err()
                .ends_with("hold different files")
        );
        fs::remove_dir_all(root).unwrap();
    }
}
