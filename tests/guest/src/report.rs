//! The report of passed and failed checks.

use std::fmt::Display;

use serde::Serialize;

/// The checks so far.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    held: bool,
    detail: String,
}

impl Report {
    /// Adds a check: what it saw, or why it does not hold.
    pub(crate) fn add(&mut self, name: &'static str, outcome: anyhow::Result<impl Display>) {
        let (held, detail) = match outcome {
            Ok(seen) => (true, seen.to_string()),
            Err(error) => (false, format!("{error:#}")),
        };
        self.checks.push(Check { name, held, detail });
    }

    /// The report as a line of the log.
    pub(crate) fn line(&self) -> serde_json::Value {
        serde_json::json!({ "level": "INFO", "target": "guest_self_test", "message": "self-test", "checks": self.checks })
    }
}
