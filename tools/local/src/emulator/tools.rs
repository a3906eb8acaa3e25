//! Programs and release of emulated enclaves, built by `cargo xtask`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::child::binary;

/// The contents of `emulation.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Tools {
    /// QEMU with the `nitro-enclave` machine.
    pub qemu: PathBuf,
    /// Directories of QEMU's firmware.
    pub firmware: Vec<PathBuf>,
    /// `vhost-device-vsock`.
    pub vsock_device: PathBuf,
    /// `cloister-image`.
    pub image_tool: PathBuf,
    /// The release that this machine runs.
    pub release: PathBuf,
    /// The release of the guest's self-test.
    pub guest_release: PathBuf,
}

impl Tools {
    /// Those of the running program's target directory.
    ///
    /// # Errors
    /// If they have not been built.
    pub fn find() -> anyhow::Result<Self> {
        Self::read(&binary("../images/emulation.json")?)
    }

    /// Reads them from a file.
    ///
    /// # Errors
    /// If it cannot be read, or names a missing file.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(file)
            .with_context(|| format!("failed to read {}: {BUILD}", file.display()))?;
        let tools: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged", file.display()))?;
        let Self {
            qemu,
            firmware,
            vsock_device,
            image_tool,
            release,
            guest_release,
        } = &tools;
        for path in [qemu, vsock_device, image_tool, release, guest_release]
            .into_iter()
            .chain(firmware)
        {
            if !path.exists() {
                bail!("{} is missing: {BUILD}", path.display());
            }
        }
        Ok(tools)
    }
}

const BUILD: &str = "run `cargo xtask emulator` and `cargo xtask image` first";
