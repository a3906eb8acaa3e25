//! Boots inside a Nitro enclave: the NSM device, the settings in the image, the kernel's source of
//! randomness.

use std::fs;
use std::io::{self, Read as _};
use std::process::ExitCode;
use std::sync::Arc;

use cloister_contract::nsm::{RNG_CURRENT_PATH, RNG_NAME};
use cloister_contract::ports;
use cloister_nsm::{Device, NsmError};
use cloister_settings::{Settings, SettingsError};
use cloister_transport::Address;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::logging;
use crate::platform::{Boot, BootError};

/// The whole of a measured program: boots, then carries out `run` until it is shut down. An error is
/// logged with its causes.
pub async fn main<R>(run: impl FnOnce(Boot) -> R) -> ExitCode
where
    R: Future<Output = Result<(), BootError>>,
{
    logging::start();
    match boot() {
        Err(error) => logging::failed(&error),
        Ok(boot) => match run(boot).await {
            Err(error) => logging::failed(&error),
            Ok(()) => ExitCode::SUCCESS,
        },
    }
}

/// Collects the parts of a boot from the measured image. Nothing of it comes from the parent.
fn boot() -> Result<Boot, NitroError> {
    let settings = fs::read(SETTINGS).map_err(|source| NitroError::Read {
        path: SETTINGS,
        source,
    })?;
    require_hardware_randomness()?;
    Ok(Boot {
        listen: Address::Vsock {
            cid: Address::ANY_CID,
            port: ports::REQUESTS,
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

/// getrandom(2) is half of every key, so that the kernel also has to draw from the NSM, and from
/// nothing that a host could fake.
fn require_hardware_randomness() -> Result<(), NitroError> {
    let current = fs::read_to_string(RNG_CURRENT_PATH).map_err(|source| NitroError::Read {
        path: RNG_CURRENT_PATH,
        source,
    })?;
    if current.trim_end() == RNG_NAME {
        Ok(())
    } else {
        Err(NitroError::Randomness(current.trim_end().to_owned()))
    }
}

/// The reason for which the image does not boot.
#[derive(Debug, thiserror::Error)]
enum NitroError {
    /// A file of the image or the kernel.
    #[error("failed to read {path}")]
    Read {
        /// The file.
        path: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel's hardware random number generator is not the NSM.
    #[error("the kernel's source of randomness is `{0}` instead of the NSM")]
    Randomness(String),
    /// The measured settings.
    #[error("the measured settings are invalid")]
    Settings(#[source] SettingsError),
    /// The boot key from init.
    #[error("failed to read the boot key from init")]
    BootKey(#[source] io::Error),
    /// The NSM device.
    #[error("failed to open the NSM")]
    Device(#[source] NsmError),
}

/// The last ramdisk of the image.
const SETTINGS: &str = "/settings.json";
