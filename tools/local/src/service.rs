//! The two services of the wallet: an enclave and its pod each, alike but for names.

use crate::identity::{Identities, Identity};
use crate::part::Part;

/// One of the two services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Signs.
    Signer,
    /// Makes and imports keys.
    KeyGenerator,
}

impl Service {
    /// As enclaves, images and their measurements call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Signer => "signer",
            Self::KeyGenerator => "key-generator",
        }
    }

    /// Its enclave's process.
    pub fn enclave(self) -> Part {
        match self {
            Self::Signer => Part::SignerEnclave,
            Self::KeyGenerator => Part::KeyGeneratorEnclave,
        }
    }

    /// Its pod's process.
    pub fn pod(self) -> Part {
        match self {
            Self::Signer => Part::SignerPod,
            Self::KeyGenerator => Part::KeyGeneratorPod,
        }
    }

    /// The program of its enclave on a laptop.
    pub(crate) fn enclave_program(self) -> &'static str {
        match self {
            Self::Signer => "cloister-local-signer-enclave",
            Self::KeyGenerator => "cloister-local-key-generator-enclave",
        }
    }

    /// The program of its pod.
    pub(crate) fn pod_program(self) -> &'static str {
        match self {
            Self::Signer => "signer-pod",
            Self::KeyGenerator => "key-generator-pod",
        }
    }

    /// Whose credentials it works with.
    pub(crate) fn identity(self, identities: &Identities) -> &Identity {
        match self {
            Self::Signer => &identities.signer,
            Self::KeyGenerator => &identities.key_generator,
        }
    }
}
