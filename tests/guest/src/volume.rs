//! The volume: whether a file lasts from one enclave to the next.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, ensure};

use crate::report::Report;

/// There is one in images of the volume profile only.
pub(crate) fn exists() -> bool {
    Path::new(VOLUME).exists()
}

/// Keeps a file the first time; the second time reads what was kept.
pub(crate) fn check(report: &mut Report) {
    let kept = Path::new(VOLUME).join("kept");
    match fs::read(&kept) {
        Ok(bytes) => report.add("volume: read back", same(&bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            report.add("volume: written", write(&kept))
        }
        Err(error) => report.add("volume: readable", Err::<&str, _>(error.into())),
    }
    report.add("volume: nothing on it runs", flags());
}

/// As an application that must not lose anything does it: the file appears whole or not at all.
fn write(kept: &Path) -> anyhow::Result<&'static str> {
    let directory = Path::new(VOLUME).join("directory");
    fs::create_dir(&directory).context("a directory")?;
    let new = directory.join("new");
    let mut file = File::create_new(&new).context("a file")?;
    file.write_all(&content())?;
    file.sync_all().context("fsync")?;
    fs::rename(&new, kept).context("rename")?;
    fs::remove_dir(&directory).context("remove the directory")?;
    let names: Vec<_> = fs::read_dir(VOLUME)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<anyhow::Result<_>>()?;
    ensure!(names == ["kept"], "{names:?}");
    Ok("and synchronised")
}

fn same(bytes: &[u8]) -> anyhow::Result<String> {
    ensure!(
        bytes == content(),
        "{} bytes that are not those that were written",
        bytes.len()
    );
    Ok(format!("{} bytes", bytes.len()))
}

fn flags() -> anyhow::Result<&'static str> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let volume = mounts
        .lines()
        .find(|line| line.split(' ').nth(1) == Some(VOLUME))
        .context("not mounted")?;
    let options: Vec<_> = volume
        .split(' ')
        .nth(3)
        .unwrap_or_default()
        .split(',')
        .collect();
    for wanted in [
        "rw", "nosuid", "nodev", "noexec", "vers=4.2", "hard", "sec=sys",
    ] {
        ensure!(
            options.contains(&wanted),
            "{wanted} is not among {options:?}"
        );
    }
    Ok("rw, nosuid, nodev, noexec")
}

/// Larger than a request of NFS.
fn content() -> Vec<u8> {
    (0..3_000_000_u32)
        .map(|at| u8::try_from(at % 251).unwrap_or_default())
        .collect()
}

const VOLUME: &str = "/volume";
