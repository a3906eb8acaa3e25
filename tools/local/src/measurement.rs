//! PCR0 of an enclave that is a process: what stands in for the measurement of an image.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA384, digest};

/// PCR0 = SHA-384(SHA-384(executable) ‖ SHA-384(settings)): as with an image, another program or
/// other settings make another enclave.
///
/// # Errors
/// When the executable cannot be read.
pub fn pcr0(executable: &Path, settings: &[u8]) -> anyhow::Result<[u8; 48]> {
    let executable =
        fs::read(executable).with_context(|| format!("cannot read {}", executable.display()))?;
    let both = [digest(&SHA384, &executable), digest(&SHA384, settings)];
    let both: Vec<u8> = both
        .iter()
        .flat_map(|hash| hash.as_ref())
        .copied()
        .collect();
    Ok(digest(&SHA384, &both)
        .as_ref()
        .try_into()
        .expect("SHA-384 gives 48 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_and_settings_are_both_measured() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        fs::write(&one, "one").unwrap();
        fs::write(&other, "other").unwrap();
        assert_eq!(pcr0(&one, b"{}").unwrap(), pcr0(&one, b"{}").unwrap());
        assert_ne!(pcr0(&one, b"{}").unwrap(), pcr0(&other, b"{}").unwrap());
        assert_ne!(pcr0(&one, b"{}").unwrap(), pcr0(&one, b"[]").unwrap());
    }
}
