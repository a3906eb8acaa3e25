//! The parent instance: its context id and the heartbeat.

use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use cloister_contract::nsm::EMULATOR_MODULE_ID_PREFIX;
use cloister_contract::ports::{HEARTBEAT, HEARTBEAT_BYTE, PARENT_CID};
use cloister_nsm::Description;
use vsock::VsockStream;

use crate::command_line::CommandLine;
use crate::error::BootError;

/// The context id of the parent. The command line sets another one only if the NSM's id is an
/// emulator's: on hardware nothing can be appended to the measured line.
///
/// # Errors
/// [`BootError::ForeignParent`].
pub(crate) fn cid(line: &CommandLine, nsm: &Description) -> Result<u32, BootError> {
    match line.parent_cid {
        Some(cid) if is_emulator(nsm) => Ok(cid),
        Some(cid) => Err(BootError::ForeignParent {
            cid,
            module_id: nsm.module_id.clone(),
        }),
        None => Ok(PARENT_CID),
    }
}

/// The NSM's id is an emulator's.
pub(crate) fn is_emulator(nsm: &Description) -> bool {
    nsm.module_id.starts_with(EMULATOR_MODULE_ID_PREFIX)
}

/// Sends the heartbeat that nitro-cli waits for: one byte, which the parent returns.
///
/// # Errors
/// [`BootError::Handshake`] if the parent has not answered for [`DEADLINE`].
pub(crate) fn greet(cid: u32) -> Result<(), BootError> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match VsockStream::connect_with_cid_port(cid, HEARTBEAT)
            .and_then(|stream| exchange(stream, deadline))
        {
            Ok(()) => return Ok(()),
            Err(source) if Instant::now() >= deadline => {
                return Err(BootError::Handshake { cid, source });
            }
            Err(_) => thread::sleep(RETRY),
        }
    }
}

fn exchange(mut stream: VsockStream, deadline: Instant) -> io::Result<()> {
    let left = deadline
        .saturating_duration_since(Instant::now())
        .max(RETRY);
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))?;
    stream.write_all(&[HEARTBEAT_BYTE])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    if answer == [HEARTBEAT_BYTE] {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "another byte came back",
        ))
    }
}

const DEADLINE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cloister_nsm::Digest;

    use super::*;

    fn cid_of(module_id: &str, parent_cid: Option<u32>) -> Result<u32, BootError> {
        let nsm = Description {
            module_id: module_id.to_owned(),
            version: (1, 0, 0),
            max_pcrs: 32,
            locked_pcrs: BTreeSet::new(),
            digest: Digest::Sha384,
        };
        cid(
            &CommandLine {
                parent_cid,
                ..CommandLine::default()
            },
            &nsm,
        )
    }

    #[test]
    fn only_an_emulator_has_its_parent_elsewhere() {
        let real = "i-0123456789abcdef0-enc0123456789abcdef";
        assert_eq!(cid_of(real, None).unwrap(), 3);
        assert_eq!(cid_of("emulator-signer", None).unwrap(), 3);
        assert_eq!(cid_of("emulator-signer", Some(2)).unwrap(), 2);
        for module_id in [real, "", "i-emulator-1", "Emulator-1"] {
            for cid in [2, 3] {
                let refused = cid_of(module_id, Some(cid)).unwrap_err();
                assert!(
                    matches!(refused, BootError::ForeignParent { cid: named, .. } if named == cid)
                );
            }
        }
    }
}
