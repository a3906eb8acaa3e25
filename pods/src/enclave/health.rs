//! Health reports of the enclave, requested at most once a second.

use std::time::Duration;

use cloister_contract::Service;
use cloister_protocol::message::{HealthReport, Request};
use cloister_protocol::{Code, Operation, Rejection};
use cloister_transport::Client;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::enclave::status::EnclaveStatus;

/// The enclave's health, cached for all readers.
#[derive(Debug)]
pub(crate) struct EnclaveHealth {
    enclave: Client,
    status: EnclaveStatus,
    service: Service,
    last: Mutex<Option<(Instant, Result<HealthReport, Rejection>)>>,
}

impl EnclaveHealth {
    pub(crate) fn new(enclave: Client, status: EnclaveStatus, service: Service) -> Self {
        Self {
            enclave,
            status,
            service,
            last: Mutex::new(None),
        }
    }

    /// A report that is at most [`MAX_AGE`] old.
    pub(crate) async fn recent(&self) -> Result<HealthReport, Rejection> {
        self.status.check()?;
        // Concurrent readers wait for the same answer.
        let mut last = self.last.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < MAX_AGE
        {
            return report.clone();
        }
        let report = self.request().await;
        *last = Some((Instant::now(), report.clone()));
        report
    }

    /// A new report.
    pub(crate) async fn refresh(&self) -> Result<HealthReport, Rejection> {
        self.status.check()?;
        let mut last = self.last.lock().await;
        let report = self.request().await;
        *last = Some((Instant::now(), report.clone()));
        report
    }

    async fn request(&self) -> Result<HealthReport, Rejection> {
        let request = Request {
            operation: Operation::Health,
            parts: vec![],
        };
        let report = parse(&self.enclave.call_within(request, DEADLINE).await?)?;
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

/// Sends a request whose response is a report.
pub(crate) async fn ask(enclave: &Client, request: Request) -> Result<HealthReport, Rejection> {
    parse(&enclave.call(request).await?)
}

fn parse(json: &[u8]) -> Result<HealthReport, Rejection> {
    serde_json::from_slice(json).map_err(|_| {
        Rejection::new(
            Code::ProtocolViolation,
            "the enclave's health report is malformed",
        )
    })
}

/// Age up to which a report is repeated.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Timeout of a health request.
const DEADLINE: Duration = Duration::from_secs(2);
