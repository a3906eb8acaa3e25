//! The two services of the wallet.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A service: an enclave and the pod in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Signs with existing keys.
    Signer,
    /// Generates and imports keys.
    KeyGenerator,
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 2] = [Self::Signer, Self::KeyGenerator];

    /// The name in images, measurements, logs, addresses and KMS encryption contexts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signer => "signer",
            Self::KeyGenerator => "key-generator",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Service {
    type Err = UnknownService;

    fn from_str(name: &str) -> Result<Self, UnknownService> {
        Self::ALL
            .into_iter()
            .find(|service| service.name() == name)
            .ok_or(UnknownService)
    }
}

/// A name that is not a service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownService;

impl fmt::Display for UnknownService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = Service::ALL;
        write!(f, "unknown service: expected {first} or {second}")
    }
}

impl std::error::Error for UnknownService {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for service in Service::ALL {
            assert_eq!(service.name().parse(), Ok(service));
            assert_eq!(service.to_string(), service.name());
            let json = serde_json::to_value(service).unwrap();
            assert_eq!(json, service.name());
            assert_eq!(serde_json::from_value::<Service>(json).unwrap(), service);
        }
        for unknown in ["", "Signer", "key_generator", "signer ", "verifier"] {
            assert_eq!(unknown.parse::<Service>(), Err(UnknownService), "{unknown}");
        }
        assert_eq!(
            UnknownService.to_string(),
            "unknown service: expected signer or key-generator"
        );
    }
}
