//! The health of the service, for the front door. The signer's goes down to the table and KMS.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use cloister_protocol::message::{self, HealthReport};
use cloister_protocol::{Code, Rejection};
use cloister_transport::Client;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::enclave::health::EnclaveHealth;
use crate::http::exchange::Exchange;
use crate::service::PodService;

/// Probes the service at most once a second, so that callers cannot cause calls of KMS at will.
#[derive(Debug)]
pub(crate) struct ServiceHealth<S> {
    service: Arc<S>,
    enclave: Client,
    health: Arc<EnclaveHealth>,
    last: Mutex<Option<(Instant, Result<HealthReport, Rejection>)>>,
}

impl<S: PodService> ServiceHealth<S> {
    pub(crate) fn new(service: Arc<S>, enclave: Client, health: Arc<EnclaveHealth>) -> Self {
        Self {
            service,
            enclave,
            health,
            last: Mutex::new(None),
        }
    }

    pub(crate) fn routes(self) -> Router {
        Router::new()
            .route("/v1/health", get(report::<S>))
            .with_state(Arc::new(self))
    }

    /// A report that is at most [`MAX_AGE`] old. Only an enclave that is ready is probed.
    async fn recent(self: Arc<Self>) -> Result<HealthReport, Rejection> {
        // Detached: its result is kept also if the caller hangs up, who would otherwise cause a
        // probe with each connection.
        tokio::spawn(async move { self.probe().await })
            .await
            .unwrap_or_else(|_panic| Err(Rejection::new(Code::Internal, "internal error")))
    }

    async fn probe(&self) -> Result<HealthReport, Rejection> {
        let report = self.health.recent().await?;
        if report.state != message::State::Ready {
            return Ok(report);
        }
        // Concurrent readers wait for the same probe.
        let mut last = self.last.lock().await;
        if let Some((at, outcome)) = &*last
            && at.elapsed() < MAX_AGE
        {
            return outcome.clone();
        }
        let outcome = timeout(DEADLINE, self.service.probe(&self.enclave, report))
            .await
            .unwrap_or_else(|_| {
                Err(Rejection::new(
                    Code::DeadlineExceeded,
                    "the service did not answer in time",
                ))
            });
        *last = Some((Instant::now(), outcome.clone()));
        outcome
    }
}

async fn report<S: PodService>(
    State(health): State<Arc<ServiceHealth<S>>>,
    headers: HeaderMap,
) -> Response {
    let mut exchange = Exchange::begin("health", &headers);
    let report = exchange.enclave(health.recent()).await;
    exchange.answer(report.map(|report| {
        serde_json::to_vec(&report)
            .expect("a report is strings and flags")
            .into()
    }))
}

/// Age up to which a probe's result is repeated.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Timeout of a probe, below the front door's own.
const DEADLINE: Duration = Duration::from_secs(8);
