//! Injected faults: the next calls of an operation fail with an exception of AWS's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;

/// Message of an exception that was injected.
pub const MESSAGE: &str = "injected fault";

/// Pending faults by operation. Clones share them.
#[derive(Clone, Debug)]
pub struct Faults {
    exceptions: &'static [&'static str],
    pending: Arc<Mutex<HashMap<String, Pending>>>,
}

#[derive(Debug)]
struct Pending {
    exception: &'static str,
    count: u32,
}

impl Faults {
    /// No faults yet; calls can be made to fail with `exceptions` only.
    pub fn new(exceptions: &'static [&'static str]) -> Self {
        Self {
            exceptions,
            pending: Arc::default(),
        }
    }

    /// `POST /_local/faults`. Answers 204, or 422 for an unknown exception.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        Router::new()
            .route("/_local/faults", post(inject))
            .with_state(self.clone())
    }

    /// The exception that the next call of an operation fails with, if any.
    pub fn take(&self, operation: &str) -> Option<&'static str> {
        let mut pending = self.lock();
        let fault = pending.get_mut(operation)?;
        fault.count = fault.count.checked_sub(1)?;
        Some(fault.exception)
    }

    fn inject(&self, fault: Fault) -> StatusCode {
        let known = self.exceptions.iter().find(|known| **known == fault.error);
        let Some(exception) = known else {
            return StatusCode::UNPROCESSABLE_ENTITY;
        };
        let pending = Pending {
            exception,
            count: fault.count,
        };
        self.lock().insert(fault.operation, pending);
        StatusCode::NO_CONTENT
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    operation: String,
    error: String,
    /// Number of calls that fail; 0 clears.
    count: u32,
}

async fn inject(State(faults): State<Faults>, Json(fault): Json<Fault>) -> StatusCode {
    faults.inject(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_met_as_often_as_injected_and_can_be_cleared() {
        let faults = Faults::new(&["ThrottlingException"]);
        let inject = |error: &str, count| {
            faults.inject(Fault {
                operation: "Decrypt".into(),
                error: error.into(),
                count,
            })
        };
        assert_eq!(inject("ThrottlingException", 2), StatusCode::NO_CONTENT);
        assert!(faults.take("Encrypt").is_none());
        for _ in 0..2 {
            assert_eq!(faults.take("Decrypt"), Some("ThrottlingException"));
        }
        assert!(faults.take("Decrypt").is_none());
        inject("ThrottlingException", 1);
        inject("ThrottlingException", 0);
        assert!(faults.take("Decrypt").is_none());
        assert_eq!(
            inject("NoSuchException", 1),
            StatusCode::UNPROCESSABLE_ENTITY
        );
        assert!(faults.take("Decrypt").is_none());
    }
}
