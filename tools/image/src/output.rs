//! Atomic file output.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

/// Reads a file of 1 to `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let what = || format!("failed to read {}", path.display());
    let len = fs::metadata(path).with_context(what)?.len();
    if len == 0 || len > limit {
        bail!(
            "{} has {len} bytes; between 1 and {limit} are expected",
            path.display()
        );
    }
    fs::read(path).with_context(what)
}

/// Creates a directory for results.
pub(crate) fn directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("failed to create {}", path.display()))
}

/// A temporary file in `directory`, deleted unless it is [`finish`]ed.
pub(crate) fn start(directory: &Path) -> Result<NamedTempFile> {
    NamedTempFile::new_in(directory)
        .with_context(|| format!("failed to write to {}", directory.display()))
}

/// Moves a file to its path and makes it readable for all: an image has no secrets.
pub(crate) fn finish(file: NamedTempFile, path: &Path) -> Result<()> {
    let what = || format!("failed to write {}", path.display());
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))
        .with_context(what)?;
    file.as_file().sync_all().with_context(what)?;
    file.persist(path).with_context(what)?;
    Ok(())
}

/// Writes a whole file.
pub(crate) fn write(directory: &Path, name: &str, contents: &[u8]) -> Result<()> {
    let mut file = start(directory)?;
    file.write_all(contents)
        .with_context(|| format!("failed to write {}", directory.join(name).display()))?;
    finish(file, &directory.join(name))
}

/// Pretty JSON with a line break at the end.
pub(crate) fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    Ok(json)
}

/// SHA-256 in hex.
pub(crate) fn sha256(contents: &[u8]) -> String {
    const_hex::encode(Sha256::digest(contents))
}
