//! Checks that a file can run in an enclave, because an enclave that cannot start is silent.

use anyhow::{Result, ensure};

use cloister_contract::Architecture;

/// Checks that a kernel has the form that the hypervisor starts.
pub(crate) fn check_kernel(bytes: &[u8], architecture: Architecture) -> Result<()> {
    let (at, magic, form) = match architecture {
        // https://docs.kernel.org/arch/x86/boot.html
        Architecture::Amd64 => (0x202, b"HdrS", "bzImage"),
        // https://docs.kernel.org/arch/arm64/booting.html
        Architecture::Arm64 => (56, b"ARM\x64", "Image"),
    };
    ensure!(
        bytes.get(at..at + 4) == Some(magic),
        "not a Linux kernel for {architecture} ({form} is expected)"
    );
    Ok(())
}

/// Checks that a program is static and for the architecture: the image has neither libraries nor a
/// loader.
pub(crate) fn check_program(bytes: &[u8], architecture: Architecture) -> Result<()> {
    let machine = match architecture {
        Architecture::Amd64 => 62,
        Architecture::Arm64 => 183,
    };
    // ELF, 64 bits, little-endian: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html
    let header = bytes
        .first_chunk::<64>()
        .filter(|header| header.starts_with(b"\x7fELF\x02\x01"));
    let machine_of = |header: &[u8; 64]| u16::from_le_bytes([header[18], header[19]]);
    let Some(header) = header.filter(|header| machine_of(header) == machine) else {
        anyhow::bail!("not a program for Linux on {architecture}");
    };

    let table: [u8; 8] = std::array::from_fn(|index| header[32 + index]);
    let table = usize::try_from(u64::from_le_bytes(table))?;
    let len = usize::from(u16::from_le_bytes([header[54], header[55]]));
    let count = usize::from(u16::from_le_bytes([header[56], header[57]]));
    for index in 0..count {
        let segment = table
            .checked_add(index * len)
            .and_then(|at| bytes.get(at..)?.first_chunk());
        let kind = segment.map(|kind| u32::from_le_bytes(*kind));
        ensure!(kind.is_some(), "program is truncated");
        ensure!(
            kind != Some(PT_INTERP),
            "program is linked dynamically; build it for a musl target"
        );
    }
    Ok(())
}

const PT_INTERP: u32 = 3;
