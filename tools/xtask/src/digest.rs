//! SHA-256, by the system's `sha256sum`: this package has no dependencies.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The hash of some bytes, in hex.
pub(crate) fn sha256(bytes: &[u8]) -> Result<String, String> {
    let problem = |error| format!("sha256sum does not run: {error}");
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(problem)?;
    child
        .stdin
        .take()
        .expect("stdin was asked to be a pipe")
        .write_all(bytes)
        .map_err(problem)?;
    hash_of(&child.wait_with_output().map_err(problem)?)
}

/// The hash of a file, in hex.
pub(crate) fn sha256_of_file(path: &Path) -> Result<String, String> {
    let output = Command::new("sha256sum").arg("--").arg(path).output();
    hash_of(&output.map_err(|error| format!("sha256sum does not run: {error}"))?)
}

fn hash_of(output: &Output) -> Result<String, String> {
    // A name with special characters makes sha256sum start its line with a backslash.
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim_start_matches('\\').get(..64) {
        Some(hash) if output.status.success() => Ok(hash.to_owned()),
        _ => Err(format!(
            "sha256sum: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nothing() {
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b"").unwrap(), nothing);
        assert_eq!(sha256_of_file(Path::new("/dev/null")).unwrap(), nothing);
        assert!(sha256_of_file(Path::new("/nonexistent")).is_err());
    }
}
