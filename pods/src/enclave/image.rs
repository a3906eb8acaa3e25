//! Checks an image before its start.
//!
//! This detects operators' mistakes early. It is not a security boundary: KMS keeps other images
//! from the keys, because it compares the registers that the hypervisor measured.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cloister_contract::{Service, events};
use cloister_eif::{Difference, Eif, EifError, ExpectedMeasurements, ExpectedMeasurementsError};

use crate::enclave::driver::Launch;

/// Compares the image with the expected measurements of `service` in the file `measurements`.
///
/// # Errors
/// [`ImageError`] if they differ, or either is unreadable.
pub(crate) fn check(
    launch: &Launch,
    measurements: &Path,
    service: Service,
) -> Result<(), ImageError> {
    check_memory(launch)?;
    let expected = ExpectedMeasurements::read(measurements, service.name()).map_err(|source| {
        ImageError::Expected {
            path: measurements.to_owned(),
            source,
        }
    })?;
    let image = Eif::read(&launch.image).map_err(|source| ImageError::Eif {
        path: launch.image.clone(),
        source,
    })?;
    if let Some(warning) = image.certificate_warning(SystemTime::now()) {
        tracing::warn!(
            event = events::SIGNING_CERTIFICATE_ENDS,
            image = %launch.image.display(),
            "{warning}"
        );
    }
    expected
        .compare(&image.measurements())
        .map_err(|source| ImageError::Mismatch {
            path: launch.image.clone(),
            source,
        })
}

/// Checks the memory against nitro-cli's minimum: four times the image's size.
///
/// # Errors
/// [`ImageError::Memory`], or [`ImageError::Size`].
pub(crate) fn check_memory(launch: &Launch) -> Result<(), ImageError> {
    let (path, memory_mib) = (launch.image.clone(), launch.memory_mib);
    let size = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(source) => return Err(ImageError::Size { path, source }),
    };
    let needed_mib = size.saturating_mul(MEMORY_PER_IMAGE_SIZE).div_ceil(1 << 20);
    if u64::from(memory_mib) < needed_mib {
        return Err(ImageError::Memory {
            path,
            memory_mib,
            needed_mib,
        });
    }
    Ok(())
}

/// An error that keeps an image from being started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("failed to read {path}")]
    Size { path: PathBuf, source: io::Error },
    #[error("{path} is unusable as the image's expected measurements")]
    Expected {
        path: PathBuf,
        source: ExpectedMeasurementsError,
    },
    #[error("{path} is not a valid image")]
    Eif { path: PathBuf, source: EifError },
    #[error("{path} does not match the expected measurements")]
    Mismatch { path: PathBuf, source: Difference },
    #[error(
        "{memory_mib} MiB of memory are not enough for {path}: CLOISTER_ENCLAVE_MEMORY_MIB must be at least {needed_mib}, \
         four times the image's size"
    )]
    Memory {
        path: PathBuf,
        memory_mib: u32,
        needed_mib: u64,
    },
}

/// `ENCLAVE_MEMORY_EIF_SIZE_RATIO` of aws-nitro-enclaves-cli, src/enclave_proc/resource_manager.rs.
const MEMORY_PER_IMAGE_SIZE: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_four_times_the_image() {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len((20 << 20) + 1).unwrap();
        let launch = |memory_mib| Launch {
            image: image.path().to_owned(),
            cpus: 2,
            memory_mib,
            debug: false,
        };
        let said = check_memory(&launch(80)).unwrap_err().to_string();
        assert!(
            said.contains("80 MiB") && said.contains("at least 81"),
            "{said}"
        );
        check_memory(&launch(81)).unwrap();
    }
}
