//! Addresses of enclaves: a vsock port, a path of this machine, or a port behind such a path.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of an enclave. As text `vsock:CID:PORT` (`any` instead of the CID to listen on every
/// one), `unix:PATH` or `hybrid:PATH:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A socket in the file system: an enclave on a laptop.
    Unix(PathBuf),
    /// A port of a virtual machine: an enclave on Nitro.
    Vsock {
        /// The context id of the machine; [`Address::ANY_CID`] to listen.
        cid: u32,
        /// The port.
        port: u32,
    },
    /// A vsock port of a virtual machine whose monitor shows its vsock device as a unix socket: an
    /// enclave in an emulator. A client of the socket names the port first, as Firecracker
    /// and vhost-device-vsock have it. Connects only.
    Hybrid {
        /// The socket.
        path: PathBuf,
        /// The port.
        port: u32,
    },
}

impl Address {
    /// VMADDR_CID_ANY: whatever context id this machine has. See vsock(7).
    pub const ANY_CID: u32 = u32::MAX;
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(InvalidAddress)
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        if let Some(rest) = text.strip_prefix("hybrid:") {
            let (path, port) = rest
                .rsplit_once(':')
                .filter(|(path, _)| !path.is_empty())
                .ok_or(InvalidAddress)?;
            return Ok(Self::Hybrid {
                path: path.into(),
                port: number(port).ok_or(InvalidAddress)?,
            });
        }
        let (cid, port) = text
            .strip_prefix("vsock:")
            .and_then(|rest| rest.split_once(':'))
            .ok_or(InvalidAddress)?;
        let cid = if cid == "any" {
            Self::ANY_CID
        } else {
            number(cid).ok_or(InvalidAddress)?
        };
        Ok(Self::Vsock {
            cid,
            port: number(port).ok_or(InvalidAddress)?,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock {
                cid: Self::ANY_CID,
                port,
            } => write!(f, "vsock:any:{port}"),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Self::Hybrid { path, port } => write!(f, "hybrid:{}:{port}", path.display()),
        }
    }
}

/// Decimal digits only: `u32::from_str` would also take a plus sign.
fn number(text: &str) -> Option<u32> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// The text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected vsock:CID:PORT, unix:PATH or hybrid:PATH:PORT")]
pub struct InvalidAddress;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_round_trips() {
        for (text, address) in [
            (
                "unix:/run/signer.sock",
                Address::Unix("/run/signer.sock".into()),
            ),
            (
                "vsock:16:5000",
                Address::Vsock {
                    cid: 16,
                    port: 5000,
                },
            ),
            (
                "vsock:any:5000",
                Address::Vsock {
                    cid: Address::ANY_CID,
                    port: 5000,
                },
            ),
            (
                "hybrid:/run/vm.sock:5000",
                Address::Hybrid {
                    path: "/run/vm.sock".into(),
                    port: 5000,
                },
            ),
            (
                "hybrid:a:b:1",
                Address::Hybrid {
                    path: "a:b".into(),
                    port: 1,
                },
            ),
        ] {
            assert_eq!(text.parse(), Ok(address.clone()));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "unix:",
            "/run/x",
            "vsock:16",
            "vsock:16:",
            "vsock::5000",
            "vsock:+16:5000",
            "vsock:4294967296:1",
            "tcp:1:2",
            "vsock:1:2:3",
            "hybrid:",
            "hybrid:/run/vm.sock",
            "hybrid::5000",
            "hybrid:/run/vm.sock:",
            "hybrid:/run/vm.sock:+1",
        ] {
            assert_eq!(text.parse::<Address>(), Err(InvalidAddress), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_written_alike(text in "(vsock|unix|hybrid):[a-z0-9:/+]{0,12}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
