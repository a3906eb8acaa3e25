//! The NSM's operations.

use anyhow::{Context, Result, ensure};
use cloister_nsm::{Device, Digest, Nsm, NsmError, Refusal};

use crate::report::Report;

/// Describe, random bytes, registers.
pub(crate) fn check(report: &mut Report, nsm: &Device) {
    report.add("nsm: describe", describe(nsm));
    report.add("nsm: random", random(nsm));
    for (name, index) in [("pcr0", 0), ("pcr1", 1), ("pcr2", 2)] {
        report.add(name, measured(nsm, index));
    }
    report.add("nsm: every register is locked", locked(nsm));
    report.add("nsm: registers that do not exist are refused", absent(nsm));
}

fn describe(nsm: &Device) -> Result<String> {
    let description = nsm.describe()?;
    ensure!(
        description.max_pcrs == 32,
        "{} registers",
        description.max_pcrs
    );
    ensure!(
        description.digest == Digest::Sha384,
        "{:?}",
        description.digest
    );
    ensure!(
        description.locked_pcrs == (0..32).collect(),
        "locked are {:?}",
        description.locked_pcrs
    );
    let (major, minor, patch) = description.version;
    Ok(format!("{} {major}.{minor}.{patch}", description.module_id))
}

fn random(nsm: &Device) -> Result<String> {
    for len in [1, 32, 255, 256, 257, 5000] {
        let (mut first, mut second) = (vec![0; len], vec![0; len]);
        nsm.random(&mut first)?;
        nsm.random(&mut second)?;
        ensure!(len == 1 || first != second, "{len} bytes came twice");
        ensure!(
            len < 32 || first.iter().any(|byte| *byte != first[0]),
            "{len} equal bytes"
        );
    }
    Ok("1 to 5000 bytes".to_owned())
}

fn measured(nsm: &Device, index: u16) -> Result<String> {
    let register = nsm.describe_pcr(index)?;
    ensure!(register.locked, "not locked");
    Ok(const_hex::encode(register.value))
}

fn locked(nsm: &Device) -> Result<&'static str> {
    for index in 0..32 {
        let before = nsm.describe_pcr(index)?;
        ensure!(before.locked, "{index} is not locked");
        refused(Refusal::ReadOnlyIndex, nsm.extend_pcr(index, b"data"))
            .with_context(|| format!("extend {index}"))?;
        refused(Refusal::ReadOnlyIndex, nsm.lock_pcr(index))
            .with_context(|| format!("lock {index}"))?;
        ensure!(nsm.describe_pcr(index)? == before, "{index} changed");
    }
    nsm.lock_pcrs(32)?;
    Ok("0 to 31 can neither be extended nor locked again; locking all of them changes nothing")
}

fn absent(nsm: &Device) -> Result<&'static str> {
    for index in [32, 33, 255] {
        refused(Refusal::InvalidIndex, nsm.describe_pcr(index))
            .with_context(|| format!("describe {index}"))?;
        refused(Refusal::InvalidIndex, nsm.extend_pcr(index, b"data"))
            .with_context(|| format!("extend {index}"))?;
        refused(Refusal::InvalidIndex, nsm.lock_pcr(index))
            .with_context(|| format!("lock {index}"))?;
    }
    refused(Refusal::InvalidIndex, nsm.lock_pcrs(33)).context("lock 33")?;
    Ok("32 and above")
}

fn refused<T>(expected: Refusal, outcome: Result<T, NsmError>) -> Result<()> {
    match outcome {
        Err(NsmError::Refused(refusal)) if refusal == expected => Ok(()),
        Err(error) => Err(error).context("another refusal"),
        Ok(_) => anyhow::bail!("not refused"),
    }
}
