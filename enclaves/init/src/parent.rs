//! The parent: who it is, and telling it that the enclave lives.

use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use cloister_nsm::Description;
use vsock::VsockStream;

use crate::boot::BootError;
use crate::command_line::CommandLine;

/// The context id of the parent. A command line moves it only if the module says of itself that it
/// is an emulator: on hardware nobody can append to the measured line, and an image that does is
/// not one of ours.
///
/// # Errors
/// [`BootError::ForeignParent`].
pub(crate) fn cid(line: &CommandLine, nsm: &Description) -> Result<u32, BootError> {
    match line.parent_cid {
        Some(cid) if nsm.module_id.starts_with(EMULATOR) => Ok(cid),
        Some(cid) => Err(BootError::ForeignParent {
            cid,
            module_id: nsm.module_id.clone(),
        }),
        None => Ok(PARENT_CID),
    }
}

/// The heartbeat that nitro-cli waits for: one byte there and back.
///
/// # Errors
/// [`BootError::Handshake`] when the parent has not answered for [`DEADLINE`].
pub(crate) fn greet(cid: u32) -> Result<(), BootError> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match VsockStream::connect_with_cid_port(cid, HEARTBEAT_PORT)
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
    stream.write_all(&[HEARTBEAT])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    if answer == [HEARTBEAT] {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "another byte came back",
        ))
    }
}

/// What an emulator's `id=` begins with; a real module is called `i-…-enc…`.
const EMULATOR: &str = "emulator-";
/// Of every parent of a Nitro enclave.
const PARENT_CID: u32 = 3;
/// Where nitro-cli listens while it starts an enclave.
const HEARTBEAT_PORT: u32 = 9000;
const HEARTBEAT: u8 = 0xb7;
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
