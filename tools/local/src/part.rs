//! The parts of the stack: every one is a process of its own.

use std::fmt;

/// A part of the stack, in the order in which a request and then its calls meet them.
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
