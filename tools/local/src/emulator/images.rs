//! The images of a deployment on this machine, assembled from a release and settings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use aws_lc_rs::digest::{self, SHA256};
use cloister_contract::Service;
use cloister_eif::ExpectedMeasurements;
use cloister_key_policy::{Measurements, Pcr0};

use super::Tools;

/// A directory with both images and their measurements.
#[derive(Clone, Debug)]
pub struct Images(PathBuf);

impl Images {
    /// Assembles the images, or takes those in `directory` if they were made of the same release
    /// and settings.
    ///
    /// # Errors
    /// If the image tool fails.
    pub fn assemble(tools: &Tools, settings: &str, directory: &Path) -> anyhow::Result<Self> {
        let images = Self(directory.to_owned());
        let key = key(tools, settings)?;
        let key_file = directory.join("made-of");
        if fs::read_to_string(&key_file).is_ok_and(|made_of| made_of == key) {
            return Ok(images);
        }
        let make = || -> anyhow::Result<()> {
            fs::create_dir_all(directory)?;
            let _ = fs::remove_file(&key_file);
            let settings_file = directory.join("settings.json");
            fs::write(&settings_file, settings)?;
            let mut tool = Command::new(&tools.image_tool);
            tool.arg("assemble")
                .arg("--release")
                .arg(&tools.release)
                .arg("--settings")
                .arg(&settings_file);
            let output = tool
                .arg("--output")
                .arg(directory)
                .stdin(Stdio::null())
                .output()?;
            ensure!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
            fs::write(&key_file, key)?;
            Ok(())
        };
        make().with_context(|| {
            format!(
                "failed to make the enclaves' images in {}",
                directory.display()
            )
        })?;
        Ok(images)
    }

    /// Existing images: `signer.eif`, `key-generator.eif`, `measurements.json`.
    pub fn open(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// The image of a service, an EIF file.
    pub fn image(&self, service: Service) -> PathBuf {
        self.0.join(format!("{}.eif", service.name()))
    }

    /// The file of the images' measurements.
    pub fn measurements_file(&self) -> PathBuf {
        self.0.join("measurements.json")
    }

    /// PCR0 of both, for a key policy.
    ///
    /// # Errors
    /// If `measurements.json` cannot be parsed.
    pub fn measurements(&self) -> anyhow::Result<Measurements> {
        let pcr0 = |service: Service| {
            let expected = ExpectedMeasurements::read(&self.measurements_file(), service.name())?;
            Pcr0::try_from(expected.measurements().pcr0).context("an image measures as zeros")
        };
        Ok(Measurements::new(
            pcr0(Service::Signer)?,
            pcr0(Service::KeyGenerator)?,
        ))
    }
}

/// `release.json` names the contents of the release by hash.
fn key(tools: &Tools, settings: &str) -> anyhow::Result<String> {
    let release = tools.release.join("release.json");
    let release =
        fs::read(&release).with_context(|| format!("failed to read {}", release.display()))?;
    let hash = |bytes: &[u8]| const_hex::encode(digest::digest(&SHA256, bytes));
    Ok(format!(
        "release {} settings {}",
        hash(&release),
        hash(settings.as_bytes())
    ))
}
