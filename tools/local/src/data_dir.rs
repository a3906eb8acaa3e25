//! The directory of everything that survives a restart; one stack at a time may use it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// File of the variables with which the API is called. It exists exactly while the stack answers.
pub const ENDPOINT_FILE: &str = "endpoint.env";

/// The data directory of one stack, locked.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    /// Held for its lock, which the kernel takes back when this process ends in whatever way.
    _lock: File,
}

impl DataDir {
    /// Opens (or makes) the directory and locks it.
    ///
    /// # Errors
    /// If it cannot be made, or another stack uses it.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let root = std::path::absolute(root).context("the data directory has no absolute path")?;
        private_directory(&root)?;
        private_directory(&root.join("logs"))?;
        let path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let lock = lock.with_context(|| format!("failed to open {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root, _lock: lock }),
            Err(TryLockError::WouldBlock) => bail!(
                "another stack is running on {}: stop it first, or choose another directory with --data-dir",
                root.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("failed to lock {}", path.display()))
            }
        }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of something in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The directory of every part's log.
    pub fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// Reads a file of it; `None` if it is missing.
    ///
    /// # Errors
    /// If it exists but cannot be read.
    pub fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        let Some(bytes) = self.read_bytes(name)? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes);
        text.map(Some)
            .with_context(|| format!("{} is not text", self.path(name).display()))
    }

    /// Reads a file of it that may hold anything; `None` if it is missing.
    ///
    /// # Errors
    /// If it exists but cannot be read.
    pub fn read_bytes(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        match fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("failed to read {}", self.path(name).display()))
            }
        }
    }

    /// Writes a file of it that only its owner may read, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        let write = || -> anyhow::Result<()> {
            private_directory(path.parent().unwrap_or(&self.root))?;
            // Made with mode 0600.
            let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(&self.root))?;
            file.write_all(contents.as_ref())?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    }

    /// Removes a file of it, if it exists.
    ///
    /// # Errors
    /// If it exists but cannot be removed.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error)
                .with_context(|| format!("failed to remove {}", self.path(name).display())),
            _ => Ok(()),
        }
    }
}

/// A directory that only its owner may enter.
fn private_directory(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("failed to make the directory {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn one_stack_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDir::open(directory.path()).unwrap();
        let refusal = DataDir::open(directory.path()).unwrap_err().to_string();
        assert!(refusal.contains("another stack is running on"), "{refusal}");
        drop(first);
        DataDir::open(directory.path()).unwrap();
    }

    #[test]
    fn files_are_private_and_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        assert_eq!(data.read("pki/ca.pem").unwrap(), None);
        for text in ["one", "two"] {
            let path = data.write("pki/ca.pem", text).unwrap();
            assert_eq!(data.read("pki/ca.pem").unwrap().as_deref(), Some(text));
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        data.remove("pki/ca.pem").unwrap();
        data.remove("pki/ca.pem").unwrap();
        assert_eq!(data.read("pki/ca.pem").unwrap(), None);
    }
}
