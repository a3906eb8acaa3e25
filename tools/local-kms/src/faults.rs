//! Failures that a test asks for: the next calls of an operation fail as KMS would fail.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Deserializer, de::Error};

use crate::error::KmsError;

/// Pending failures by operation.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<HashMap<String, Fault>>);

/// A request to fail.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    operation: String,
    error: Exception,
    /// How many calls fail; 0 clears.
    count: u32,
}

/// What a call can be made to fail with.
const EXCEPTIONS: [&str; 10] = [
    "AccessDeniedException",
    "DependencyTimeoutException",
    "DisabledException",
    "IncorrectKeyException",
    "InvalidCiphertextException",
    "KMSInternalException",
    "KMSInvalidStateException",
    "KeyUnavailableException",
    "NotFoundException",
    "ThrottlingException",
];

impl Faults {
    pub(crate) fn set(&self, fault: Fault) {
        self.lock().insert(fault.operation.clone(), fault);
    }

    /// The failure that the next call of an operation meets, if any.
    pub(crate) fn take(&self, operation: &str) -> Option<KmsError> {
        let mut faults = self.lock();
        let fault = faults.get_mut(operation)?;
        fault.count = fault.count.checked_sub(1)?;
        Some(KmsError::new(
            fault.error.0,
            "a fault that a test asked for",
        ))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of [`EXCEPTIONS`].
#[derive(Debug)]
struct Exception(&'static str);

impl<'de> Deserialize<'de> for Exception {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = EXCEPTIONS.into_iter().find(|known| *known == name);
        known
            .map(Self)
            .ok_or_else(|| D::Error::custom("no such exception"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_met_as_often_as_asked_and_can_be_cleared() {
        let faults = Faults::default();
        let ask = |count| Fault {
            operation: "Decrypt".into(),
            error: Exception("ThrottlingException"),
            count,
        };
        faults.set(ask(2));
        assert!(faults.take("Encrypt").is_none());
        for _ in 0..2 {
            assert_eq!(
                faults.take("Decrypt").unwrap().exception,
                "ThrottlingException"
            );
        }
        assert!(faults.take("Decrypt").is_none());
        faults.set(ask(1));
        faults.set(ask(0));
        assert!(faults.take("Decrypt").is_none());
    }
}
