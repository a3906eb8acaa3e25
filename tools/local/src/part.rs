//! The parts of the stack, each a process.

use std::fmt;

use cloister_contract::Service;

/// A part of the stack, in the order in which a request reaches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Verifies SigV4 and runs the front door.
    Gateway,
    /// The signer's pod.
    SignerPod,
    /// The signer.
    SignerEnclave,
    /// The key generator's pod.
    KeyGeneratorPod,
    /// The key generator.
    KeyGeneratorEnclave,
    /// The KMS.
    Kms,
    /// TLS, signatures and rights in front of dynalite.
    Table,
    /// The DynamoDB.
    Dynalite,
    /// The Ethereum node.
    Anvil,
}

impl Part {
    /// The enclave of a service.
    pub fn enclave(service: Service) -> Self {
        match service {
            Service::Signer => Self::SignerEnclave,
            Service::KeyGenerator => Self::KeyGeneratorEnclave,
        }
    }

    /// The pod of a service.
    pub fn pod(service: Service) -> Self {
        match service {
            Service::Signer => Self::SignerPod,
            Service::KeyGenerator => Self::KeyGeneratorPod,
        }
    }

    /// Its name in messages and of its log file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::SignerPod => "signer-pod",
            Self::SignerEnclave => "signer-enclave",
            Self::KeyGeneratorPod => "key-generator-pod",
            Self::KeyGeneratorEnclave => "key-generator-enclave",
            Self::Kms => "kms",
            Self::Table => "table",
            Self::Dynalite => "dynalite",
            Self::Anvil => "anvil",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
