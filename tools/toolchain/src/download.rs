//! Files from the network, each pinned by its hash and kept.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};
use fs_err as fs;

use crate::cache;
use crate::command::succeed;
use crate::digest::sha256_of_file;

/// A file of the network with its hash.
#[derive(Debug)]
pub struct Pinned {
    /// Its name among the kept downloads.
    pub name: &'static str,
    /// Complete addresses, tried in this order.
    pub urls: &'static [&'static str],
    /// SHA-256, hex.
    pub sha256: &'static str,
}

impl Pinned {
    /// The file's path; downloaded the first time, hashed every time.
    ///
    /// # Errors
    /// If no address gives the file with this hash.
    pub fn path(&self) -> Result<PathBuf> {
        let downloads = cache::directory()?.join("downloads");
        fs::create_dir_all(&downloads)?;
        let path = downloads.join(self.name);
        if path.exists() && sha256_of_file(&path)? == self.sha256 {
            return Ok(path);
        }
        let part = downloads.join(format!("{}.{}.part", self.name, std::process::id()));
        let mut problems = String::new();
        for url in self.urls {
            let outcome = self.download(url, &part);
            match outcome.and_then(|()| Ok(fs::rename(&part, &path)?)) {
                Ok(()) => return Ok(path),
                Err(problem) => problems.push_str(&format!("\n  {url}: {problem:#}")),
            }
            let _ = fs::remove_file(&part);
        }
        bail!(
            "failed to download {}:{problems}\nA copy with SHA-256 {} may also be put at {}.",
            self.name,
            self.sha256,
            path.display()
        )
    }

    fn download(&self, url: &str, part: &Path) -> Result<()> {
        eprintln!("downloading {url}");
        let mut curl = Command::new("curl");
        curl.args(["--fail", "--location", "--silent", "--show-error"]);
        curl.args(["--retry", "3", "--connect-timeout", "20", "--output"]);
        succeed(curl.arg(part).arg(url))?;
        let hash = sha256_of_file(part)?;
        ensure!(
            hash == self.sha256,
            "SHA-256 is {hash}, not {}",
            self.sha256
        );
        Ok(())
    }
}
