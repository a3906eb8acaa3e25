//! TCP ports of a stack.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context as _;
use cloister_contract::Service;

/// Ports of the parts that callers, operators or debuggers use: one block of ten, or any free ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports(Option<u16>);

/// A port by its place in the block. `docs/running-locally.md` has the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Gateway = 0,
    Chain = 1,
    SignerPod = 2,
    SignerPodHealth = 3,
    KeyGeneratorPod = 4,
    KeyGeneratorPodHealth = 5,
    Kms = 6,
    Table = 7,
}

impl Ports {
    /// The first block of ten, from `first` on, whose ports are free; any ports for `None` or 0.
    ///
    /// # Errors
    /// If no block is free.
    pub(super) fn choose(first: Option<u16>) -> anyhow::Result<Self> {
        let Some(first) = first.filter(|first| *first != 0) else {
            return Ok(Self(None));
        };
        let mut blocks = (first..=u16::MAX - BLOCK).step_by(usize::from(BLOCK));
        let block = blocks.find(|block| (*block..*block + USED).all(is_free));
        let block =
            block.with_context(|| format!("failed to find {USED} free ports from {first} on"))?;
        Ok(Self(Some(block)))
    }

    /// The address of a part to be started.
    pub(super) fn address(self, port: Port) -> SocketAddr {
        let port = self.0.map_or(0, |block| block + port as u16);
        (Ipv4Addr::LOCALHOST, port).into()
    }
}

impl Port {
    pub(super) fn pod(service: Service) -> Self {
        match service {
            Service::Signer => Self::SignerPod,
            Service::KeyGenerator => Self::KeyGeneratorPod,
        }
    }

    pub(super) fn pod_health(service: Service) -> Self {
        match service {
            Service::Signer => Self::SignerPodHealth,
            Service::KeyGenerator => Self::KeyGeneratorPodHealth,
        }
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

const BLOCK: u16 = 10;
const USED: u16 = Port::Table as u16 + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_ports_are_chosen_until_one_is_taken() {
        // A block that is free now; another process of this test begins elsewhere.
        let own = u16::try_from(std::process::id() % 1_000).unwrap();
        let Ports(Some(block)) = Ports::choose(Some(10_000 + 10 * own)).unwrap() else {
            panic!("no block")
        };
        let gateway = |ports: Ports| ports.address(Port::Gateway).port();
        for _ in 0..2 {
            assert_eq!(gateway(Ports::choose(Some(block)).unwrap()), block);
        }
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, block + 3)).unwrap();
        let next = gateway(Ports::choose(Some(block)).unwrap());
        assert!(next > block && (next - block) % BLOCK == 0, "{next}");
        drop(taken);
        assert_eq!(gateway(Ports::choose(Some(block)).unwrap()), block);
    }

    #[test]
    fn zero_is_any_port() {
        for any in [None, Some(0)] {
            let ports = Ports::choose(any).unwrap();
            assert_eq!(ports.address(Port::Chain).port(), 0);
        }
    }
}
