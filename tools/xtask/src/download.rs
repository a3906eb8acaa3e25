//! Files from the network, each pinned by its hash and kept.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::cache;
use crate::digest::sha256_of_file;
use crate::run::succeed;

/// A file, where to get it, and what it has to be.
pub(crate) struct Pinned {
    /// Its name among the kept downloads.
    pub(crate) name: &'static str,
    /// Complete addresses, tried in this order.
    pub(crate) urls: &'static [&'static str],
    /// SHA-256, hex.
    pub(crate) sha256: &'static str,
}

impl Pinned {
    /// The file's path; downloaded the first time, hashed every time.
    pub(crate) fn path(&self) -> Result<PathBuf, String> {
        let downloads = cache::directory()?.join("downloads");
        fs::create_dir_all(&downloads)
            .map_err(|error| format!("cannot create {}: {error}", downloads.display()))?;
        let path = downloads.join(self.name);
        if path.exists() && sha256_of_file(&path)? == self.sha256 {
            return Ok(path);
        }
        let part = downloads.join(format!("{}.{}.part", self.name, std::process::id()));
        let mut problems = String::new();
        for url in self.urls {
            let outcome = self.download(url, &part);
            let named =
                outcome.and_then(|()| fs::rename(&part, &path).map_err(|error| error.to_string()));
            match named {
                Ok(()) => return Ok(path),
                Err(problem) => problems.push_str(&format!("\n  {url}: {problem}")),
            }
            let _ = fs::remove_file(&part);
        }
        Err(format!(
            "cannot download {}:{problems}\nA copy with SHA-256 {} may also be put at {}.",
            self.name,
            self.sha256,
            path.display()
        ))
    }

    fn download(&self, url: &str, part: &std::path::Path) -> Result<(), String> {
        println!("downloading {url}");
        let flags = [
            "--fail",
            "--location",
            "--silent",
            "--show-error",
            "--retry",
            "3",
            "--connect-timeout",
            "20",
        ];
        succeed(
            Command::new("curl")
                .args(flags)
                .arg("--output")
                .arg(part)
                .arg(url),
        )?;
        match sha256_of_file(part)? {
            hash if hash == self.sha256 => Ok(()),
            hash => Err(format!("its SHA-256 is {hash}, not {}", self.sha256)),
        }
    }
}
