//! What the enclave says of itself, asked at most once a second.

use std::time::Duration;

use cloister_protocol::message::{HealthReport, Request};
use cloister_protocol::{Code, Operation, Rejection};
use cloister_transport::Client;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::presence::Presence;

/// The enclave's health, for everybody who asks.
#[derive(Debug)]
pub(crate) struct EnclaveHealth {
    enclave: Client,
    presence: Presence,
    service: &'static str,
    last: Mutex<Option<(Instant, Result<HealthReport, Rejection>)>>,
}

impl EnclaveHealth {
    pub(crate) fn new(enclave: Client, presence: Presence, service: &'static str) -> Self {
        Self {
            enclave,
            presence,
            service,
            last: Mutex::new(None),
        }
    }

    /// Not older than [`MAX_AGE`].
    pub(crate) async fn recent(&self) -> Result<HealthReport, Rejection> {
        self.presence.now()?;
        // Whoever asks meanwhile waits for the same answer.
        let mut last = self.last.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < MAX_AGE
        {
            return report.clone();
        }
        let report = self.ask().await;
        *last = Some((Instant::now(), report.clone()));
        report
    }

    /// From now.
    pub(crate) async fn now(&self) -> Result<HealthReport, Rejection> {
        self.presence.now()?;
        let mut last = self.last.lock().await;
        let report = self.ask().await;
        *last = Some((Instant::now(), report.clone()));
        report
    }

    async fn ask(&self) -> Result<HealthReport, Rejection> {
        let request = Request {
            operation: Operation::Health,
            parts: vec![],
        };
        let report = read(&self.enclave.call_within(request, DEADLINE).await?)?;
        if report.service != self.service {
            return Err(Rejection::new(
                Code::ProtocolViolation,
                format!(
                    "the enclave is a {}, not a {}",
                    report.service, self.service
                ),
            ));
        }
        Ok(report)
    }
}

/// Reads a report.
pub(crate) fn read(json: &[u8]) -> Result<HealthReport, Rejection> {
    serde_json::from_slice(json).map_err(|_| {
        Rejection::new(
            Code::ProtocolViolation,
            "the enclave's report is not readable",
        )
    })
}

/// Age up to which an answer is repeated.
const MAX_AGE: Duration = Duration::from_secs(1);
/// For the enclave's answer.
const DEADLINE: Duration = Duration::from_secs(2);
