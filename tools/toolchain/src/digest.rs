//! SHA-256 of bytes, files and directories.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use fs_err as fs;
use sha2::{Digest as _, Sha256};

/// The hash of some bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    const_hex::encode(Sha256::digest(bytes))
}

/// The hash of a file, in hex.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(const_hex::encode(hasher.finalize())),
            len => hasher.update(&buffer[..len]),
        }
    }
}

/// The hashes of all regular files below a directory, by their paths relative to it.
///
/// # Errors
/// If something below it cannot be read, or has a name that is not UTF-8.
pub fn sha256_of_tree(directory: &Path) -> Result<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let path = entry.path();
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() {
                let name = path.strip_prefix(directory).unwrap_or(&path).to_str();
                let name = name.with_context(|| format!("{} is not UTF-8", path.display()))?;
                hashes.insert(name.to_owned(), sha256_of_file(&path)?);
            }
        }
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_its_bytes_have_one_hash() {
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), nothing);
        assert_eq!(sha256_of_file(Path::new("/dev/null")).unwrap(), nothing);
        assert!(sha256_of_file(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn a_tree_lists_every_file_below_it() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let hashes = sha256_of_tree(source).unwrap();
        let own = sha256_of_file(&source.join("src/digest.rs")).unwrap();
        assert_eq!(hashes["src/digest.rs"], own);
    }
}
