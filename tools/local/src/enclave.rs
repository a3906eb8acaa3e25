//! An enclave as a process of this machine: the libraries of the measured images under another
//! `main`. [`Boot`] has the differences: a software NSM, a unix socket, and settings from a file of
//! the command line.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA384, digest};
use clap::Parser;
use cloister_nsm_software::{Pki, SoftwareNsm};
use cloister_runtime::{Boot, Settings};
use cloister_transport::Address;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The command line of both enclaves.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// Address for pods: unix:PATH.
    #[arg(long)]
    listen: Address,
    /// The settings that an image would measure, JSON.
    #[arg(long)]
    settings: PathBuf,
    /// Certificates and keys of the software NSM, PEM.
    #[arg(long)]
    nsm_pki: PathBuf,
    /// PCR0 of the enclave: 96 hex digits.
    #[arg(long, value_parser = pcr0)]
    pcr0: [u8; 48],
    /// Measure as zeros, as an enclave in debug mode does.
    #[arg(long)]
    debug_mode: bool,
}

impl Arguments {
    /// The enclave's start parameters. It ends on SIGTERM and SIGINT, after the requests in flight.
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// If a file cannot be read or parsed.
    pub fn boot(self) -> anyhow::Result<Boot> {
        let settings = fs::read(&self.settings)
            .with_context(|| format!("failed to read {}", self.settings.display()))?;
        let settings = Settings::parse(&settings)
            .with_context(|| format!("in {}", self.settings.display()))?;
        let pki = fs::read_to_string(&self.nsm_pki)
            .with_context(|| format!("failed to read {}", self.nsm_pki.display()))?;
        let pki = Pki::from_pem(&pki).with_context(|| format!("in {}", self.nsm_pki.display()))?;
        let nsm = SoftwareNsm::new(&pki, measurements(self.pcr0, self.debug_mode))
            .context("failed to make the software NSM")?;
        let boot_key = nsm.make_boot_key().context("failed to make the boot key")?;
        Ok(Boot {
            listen: self.listen,
            settings,
            nsm: Arc::new(nsm),
            boot_key,
            shutdown: on_signal()?,
        })
    }
}

/// PCR0 as given; PCR1 and PCR2 follow from it, so that they are those of no image.
fn measurements(pcr0: [u8; 48], debug_mode: bool) -> BTreeMap<u16, [u8; 48]> {
    let derived = |label: &[u8]| {
        digest(&SHA384, &[label, &pcr0].concat())
            .as_ref()
            .try_into()
            .expect("SHA-384 has 48 bytes")
    };
    let measured = [(0, pcr0), (1, derived(b"PCR1")), (2, derived(b"PCR2"))];
    measured
        .map(|(index, value)| (index, if debug_mode { [0; 48] } else { value }))
        .into()
}

fn on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to wait for SIGINT")?;
    let shutdown = CancellationToken::new();
    let cancelled = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(shutdown)
}

fn pcr0(text: &str) -> Result<[u8; 48], String> {
    let mut bytes = [0; 48];
    const_hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| "expected 96 hex digits".to_owned())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_mode_measures_as_zeros() {
        let measured = measurements([7; 48], false);
        assert_eq!(measured[&0], [7; 48]);
        assert!(measured[&1] != measured[&2] && measured[&1] != [0; 48]);
        assert!(
            measurements([7; 48], true)
                .values()
                .all(|value| *value == [0; 48])
        );
    }

    #[test]
    fn pcr0_is_96_digits() {
        assert_eq!(pcr0(&"0f".repeat(48)), Ok([0x0f; 48]));
        for wrong in ["", "0f", &"0f".repeat(49), &"0g".repeat(48)] {
            assert!(pcr0(wrong).is_err(), "{wrong}");
        }
    }
}
