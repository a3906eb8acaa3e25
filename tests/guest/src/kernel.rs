//! Checks of the kernel: randomness, time, loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use cloister_contract::nsm;
use cloister_nsm::Device;

use crate::report::Report;

/// Randomness from the NSM, time from the NSM, and a network of one.
pub(crate) fn check(report: &mut Report, nsm: &Device) {
    report.add("kernel: randomness comes from the NSM", randomness());
    report.add("kernel: the clock is the NSM's", clock(nsm));
    report.add("kernel: loopback", loopback());
}

fn randomness() -> Result<String> {
    let current = std::fs::read_to_string(nsm::RNG_CURRENT_PATH)?;
    ensure!(current.trim_end() == nsm::RNG_NAME, "{current}");
    Ok(current.trim_end().to_owned())
}

fn clock(nsm: &Device) -> Result<String> {
    let (here, there) = (SystemTime::now(), cloister_nsm::time(nsm)?);
    let offset = here
        .duration_since(there)
        .or_else(|_| there.duration_since(here))?;
    ensure!(offset < Duration::from_secs(2), "{offset:?} apart");
    Ok(format!(
        "{} s since 1970",
        here.duration_since(SystemTime::UNIX_EPOCH)?.as_secs()
    ))
}

fn loopback() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut client = TcpStream::connect(address)?;
    client.write_all(b"there and back")?;
    client.shutdown(Shutdown::Write)?;
    let (mut server, _) = listener.accept()?;
    let mut text = String::new();
    server.read_to_string(&mut text)?;
    ensure!(text == "there and back", "{text}");
    Ok(address.to_string())
}
