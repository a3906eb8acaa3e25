//! The service-specific part of a pod.

use std::sync::Arc;

use axum::Router;
use cloister_contract::Service;
use cloister_protocol::Rejection;
use cloister_protocol::message::HealthReport;
use cloister_transport::Client;

use crate::http::relay::Relay;

/// The service-specific part of a pod.
pub trait PodService: Send + Sync + 'static {
    /// The service that the enclave must be.
    const SERVICE: Service;

    /// The routes of the front door.
    fn routes(self: Arc<Self>, relay: Arc<Relay>) -> Router;

    /// Brings an enclave that has adopted its CMK to readiness.
    fn complete(
        &self,
        enclave: &Client,
    ) -> impl Future<Output = Result<HealthReport, Rejection>> + Send;

    /// Checks that an enclave that is ready can still serve. `report` is its own report.
    fn probe(
        &self,
        _enclave: &Client,
        report: HealthReport,
    ) -> impl Future<Output = Result<HealthReport, Rejection>> + Send {
        async { Ok(report) }
    }
}
