//! The boot key that init hands over.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use cloister_nsm::{Device, Nsm};
use p256::SecretKey;
use p256::elliptic_curve::sec1::ToSec1Point;
use sha2::{Digest, Sha384};

use crate::report::Report;

/// Standard input and PCR16.
pub(crate) fn check(report: &mut Report, nsm: &Device) {
    report.add("boot key: PCR16 vouches for it", vouched(nsm));
}

fn vouched(nsm: &Device) -> Result<String> {
    let mut scalar = Vec::new();
    std::io::stdin().read_to_end(&mut scalar)?;
    ensure!(
        scalar.len() == 32,
        "{} bytes on standard input",
        scalar.len()
    );
    let public = SecretKey::from_slice(&scalar)
        .context("no private key")?
        .public_key()
        .to_sec1_point(false);
    let expected = Sha384::new()
        .chain_update([0; 48])
        .chain_update(public.as_bytes())
        .finalize();
    let register = nsm.describe_pcr(cloister_contract::pcr::BOOT_KEY)?;
    ensure!(
        register.value == expected.as_slice(),
        "PCR16 is {}",
        const_hex::encode(register.value)
    );
    Ok(const_hex::encode(public.as_bytes()))
}
