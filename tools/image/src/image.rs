//! An enclave image, written by AWS's builder and verified by `cloister-eif`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use aws_nitro_enclaves_image_format::defs::{EIF_HDR_ARCH_ARM64, EifBuildInfo, EifIdentityInfo};
use aws_nitro_enclaves_image_format::utils::EifBuilder;
use cloister_contract::Architecture;
use cloister_eif::{Eif, Measurements};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha384};
use tempfile::NamedTempFile;

use crate::release::Release;
use crate::signing::SigningKey;
use crate::{output, ramdisk};

/// An image in a temporary file.
pub(crate) struct Image {
    file: NamedTempFile,
    bytes: Vec<u8>,
    measurements: Measurements,
}

impl Image {
    /// Builds the image of an application with these settings in `directory`.
    pub(crate) fn build(
        release: &Release,
        application: &str,
        settings: &[u8],
        key: Option<&SigningKey>,
        directory: &Path,
    ) -> Result<Self> {
        let mut last = output::start(directory)?;
        last.write_all(&ramdisk::settings(settings)?)?;
        let ramdisks: [PathBuf; 3] = [
            release.init_ramdisk()?,
            release.application_ramdisk(application)?,
            last.path().to_owned(),
        ];
        let flags = match release.architecture() {
            Architecture::Amd64 => 0,
            Architecture::Arm64 => EIF_HDR_ARCH_ARM64,
        };
        let mut builder = EifBuilder::new(
            &release.kernel()?,
            release.command_line()?,
            key.map(SigningKey::data).transpose()?,
            Sha384::new(),
            flags,
            identity(application, release.kernel_version()?),
        );
        ramdisks
            .iter()
            .for_each(|ramdisk| builder.add_ramdisk(ramdisk));
        let mut file = output::start(directory)?;
        let mut written = builder.write_to(file.as_file_mut());
        written.remove("HashAlgorithm");

        let bytes = output::read(file.path(), u64::MAX)?;
        ensure!(
            bytes.len() <= MAX_LEN,
            "the image of {application} has {} bytes; at most {MAX_LEN} fit into an enclave's memory",
            bytes.len()
        );
        let measurements = Eif::parse(bytes.clone())
            .context("failed to read the written image")?
            .measurements();
        ensure!(
            registers(&measurements) == written,
            "two ways to measure the image of {application} disagree"
        );
        Ok(Self {
            file,
            bytes,
            measurements,
        })
    }

    pub(crate) fn measurements(&self) -> &Measurements {
        &self.measurements
    }

    /// Its part of `measurements.json` under the name `file`.
    pub(crate) fn record(&self, file: &str) -> ImageRecord {
        let Measurements {
            pcr0,
            pcr1,
            pcr2,
            pcr8,
        } = self.measurements;
        ImageRecord {
            file: file.to_owned(),
            size: self.bytes.len(),
            sha256: output::sha256(&self.bytes),
            pcr0: const_hex::encode(pcr0),
            pcr1: const_hex::encode(pcr1),
            pcr2: const_hex::encode(pcr2),
            pcr8: pcr8.map(const_hex::encode),
        }
    }

    /// Moves the image to its final path.
    pub(crate) fn finish(self, path: &Path) -> Result<()> {
        output::finish(self.file, path)
    }
}

/// An image's part of `measurements.json`.
#[derive(Serialize)]
pub(crate) struct ImageRecord {
    file: String,
    size: usize,
    sha256: String,
    pcr0: String,
    pcr1: String,
    pcr2: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pcr8: Option<String>,
}

/// The metadata section, which no register covers: nothing in it may depend on where or when an
/// image is made.
fn identity(application: &str, kernel_version: String) -> EifIdentityInfo {
    EifIdentityInfo {
        img_name: format!("cloister-{application}"),
        img_version: env!("CARGO_PKG_VERSION").to_owned(),
        build_info: EifBuildInfo {
            build_time: "1970-01-01T00:00:00+00:00".to_owned(),
            build_tool: env!("CARGO_PKG_NAME").to_owned(),
            build_tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            img_os: "Linux".to_owned(),
            img_kernel: kernel_version,
        },
        docker_info: json!({}),
        custom_info: json!({}),
    }
}

fn registers(measurements: &Measurements) -> BTreeMap<String, String> {
    let Measurements {
        pcr0,
        pcr1,
        pcr2,
        pcr8,
    } = measurements;
    let registers = [
        ("PCR0", Some(pcr0)),
        ("PCR1", Some(pcr1)),
        ("PCR2", Some(pcr2)),
        ("PCR8", pcr8.as_ref()),
    ];
    let set = registers
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), const_hex::encode(value?))));
    set.collect()
}

/// In bytes. An enclave needs about four times its image's size in memory.
const MAX_LEN: usize = 16_000_000;
