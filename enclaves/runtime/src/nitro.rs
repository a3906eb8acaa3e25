//! What only a Nitro enclave has: the NSM device, the settings in its image, the kernel's source of
//! randomness.

use std::fs;
use std::io::{self, Read as _};
use std::sync::Arc;

use cloister_nsm::{Device, NsmError};
use cloister_settings::{Settings, SettingsError};
use cloister_transport::Address;
use tokio_util::sync::CancellationToken;

use zeroize::Zeroizing;

use crate::platform::Boot;

/// The boot of a measured image. Nothing of it comes from the parent.
///
/// # Errors
/// [`NitroError`] when this is not the inside of a Nitro enclave, or not one of ours.
pub fn boot() -> Result<Boot, NitroError> {
    require_hardware_randomness()?;
    let settings = fs::read(SETTINGS).map_err(|source| NitroError::Read {
        path: SETTINGS,
        source,
    })?;
    Ok(Boot {
        listen: Address::Vsock {
            cid: Address::ANY_CID,
            port: PORT,
        },
        settings: Settings::parse(&settings).map_err(NitroError::Settings)?,
        nsm: Arc::new(Device::open().map_err(NitroError::Device)?),
        boot_key: boot_key().map_err(NitroError::BootKey)?,
        shutdown: CancellationToken::new(),
    })
}

/// Init writes the boot key to standard input: the 32 bytes of a private key and nothing else.
fn boot_key() -> io::Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    let mut input = io::stdin().lock();
    input.read_exact(key.as_mut())?;
    if input.read(&mut [0])? == 0 {
        Ok(key)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// getrandom(2) is half of every key, so that the kernel has to draw from the NSM as well and from
/// nothing a host could feign.
fn require_hardware_randomness() -> Result<(), NitroError> {
    let current = fs::read_to_string(RNG_CURRENT).map_err(|source| NitroError::Read {
        path: RNG_CURRENT,
        source,
    })?;
    if current.trim_end() == NSM_RNG {
        Ok(())
    } else {
        Err(NitroError::Randomness(current.trim_end().to_owned()))
    }
}

/// Why the image does not boot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NitroError {
    /// A file of the image or the kernel.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel's hardware random number generator is not the NSM.
    #[error("the kernel draws randomness from `{0}`, not from the NSM")]
    Randomness(String),
    /// The measured settings.
    #[error("the measured settings are refused")]
    Settings(#[source] SettingsError),
    /// The boot key from init.
    #[error("init handed over no boot key")]
    BootKey(#[source] io::Error),
    /// The NSM.
    #[error("the NSM cannot be opened")]
    Device(#[source] NsmError),
}

/// The last ramdisk of the image.
const SETTINGS: &str = "/settings.json";
/// The vsock port on which pods connect.
const PORT: u32 = 5000;
/// See Documentation/admin-guide/hw_random.rst of the kernel.
const RNG_CURRENT: &str = "/sys/class/misc/hw_random/rng_current";
/// The name under which the NSM's driver registers.
const NSM_RNG: &str = "nsm-hwrng";
