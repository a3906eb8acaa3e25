//! Addresses of a forward: its listener and its target.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use cloister_transport::Address;

use crate::Destination;

/// Address on which a forward listens. As text `tcp:IP:PORT`, `vsock:CID:PORT` (`any` for every CID of this
/// machine) or `unix:PATH`. No name: an enclave could not resolve it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// An address of this machine; port 0 for any that is free.
    Tcp(SocketAddr),
    /// A vsock port or a path.
    Socket(Address),
}

impl FromStr for ListenAddress {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let parsed = match text.strip_prefix("tcp:") {
            Some(address) => address.parse().ok().map(Self::Tcp),
            None => text.parse().ok().map(Self::Socket),
        };
        // A monitor's socket is the monitor's to listen on.
        let own = parsed.filter(|address| !matches!(address, Self::Socket(Address::Hybrid { .. })));
        own.ok_or_else(|| {
            invalid(
                text,
                "expected tcp:IP:PORT, vsock:CID:PORT, vsock:any:PORT or unix:PATH",
            )
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Socket(address) => address.fmt(f),
        }
    }
}

/// Address to which a forward connects. As text `tcp:HOST:PORT`, `vsock:CID:PORT`, `unix:PATH`, or
/// `hybrid:PATH:PORT` for a vsock port behind the socket of an emulator, Firecracker or Cloud
/// Hypervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectAddress {
    /// A host, resolved again for each connection.
    Tcp(Destination),
    /// A vsock port, a path, or a port behind a path.
    Socket(Address),
}

impl FromStr for ConnectAddress {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        if let Some(destination) = text.strip_prefix("tcp:") {
            return destination
                .parse()
                .map(Self::Tcp)
                .map_err(|error| invalid(text, error.problem()));
        }
        match text.parse() {
            Ok(Address::Vsock {
                cid: Address::ANY_CID,
                ..
            }) => Err(invalid(text, "`any` is not a machine to connect to")),
            Ok(address) => Ok(Self::Socket(address)),
            Err(_) => Err(invalid(
                text,
                "expected tcp:HOST:PORT, vsock:CID:PORT, unix:PATH or hybrid:PATH:PORT",
            )),
        }
    }
}

impl fmt::Display for ConnectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(destination) => write!(f, "tcp:{destination}"),
            Self::Socket(address) => address.fmt(f),
        }
    }
}

/// The text is not an address to listen on, or to connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {problem}")]
pub struct InvalidEndpoint {
    text: String,
    problem: &'static str,
}

fn invalid(text: &str, problem: &'static str) -> InvalidEndpoint {
    InvalidEndpoint {
        text: text.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_is_written_as_it_was_read() {
        for text in [
            "tcp:127.0.0.1:0",
            "tcp:[::1]:443",
            "vsock:any:5000",
            "vsock:3:5000",
            "unix:/run/x.sock",
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        let connect = [
            "tcp:kms.test:443",
            "tcp:127.0.0.1:1",
            "tcp:[::1]:443",
            "vsock:3:5000",
            "unix:/x",
            "hybrid:/x:5000",
        ];
        for text in connect {
            assert_eq!(text.parse::<ConnectAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_listened_on_or_connected_to_is_refused() {
        for text in [
            "",
            "tcp:",
            "tcp:localhost:80",
            "tcp:127.0.0.1",
            "127.0.0.1:80",
            "udp:127.0.0.1:80",
            "vsock:x:1",
            "hybrid:/x:1",
        ] {
            assert!(
                text.parse::<ListenAddress>()
                    .unwrap_err()
                    .to_string()
                    .contains(text),
                "{text}"
            );
        }
        for text in [
            "",
            "tcp:",
            "tcp:a",
            "tcp:a:0",
            "tcp:A:1",
            "tcp:::1:1",
            "a:1",
            "vsock:any:1",
            "unix:",
        ] {
            assert!(
                text.parse::<ConnectAddress>()
                    .unwrap_err()
                    .to_string()
                    .contains(text),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_written_alike(text in "(tcp|vsock|unix|hybrid):[a-c0-9.:/\\[\\]]{0,20}") {
            if let Ok(address) = text.parse::<ListenAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
            if let Ok(address) = text.parse::<ConnectAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _ = (text.parse::<ListenAddress>(), text.parse::<ConnectAddress>());
        }
    }
}
