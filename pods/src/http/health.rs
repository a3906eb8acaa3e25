//! The enclave's health, for the front door.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;

use crate::enclave::health::EnclaveHealth;
use crate::http::exchange::Exchange;

pub(crate) fn routes(health: Arc<EnclaveHealth>) -> Router {
    Router::new()
        .route("/v1/health", get(report))
        .with_state(health)
}

/// The enclave's report, at most a second old, whatever its state.
async fn report(State(health): State<Arc<EnclaveHealth>>, headers: HeaderMap) -> Response {
    let mut exchange = Exchange::begin("health", &headers);
    let report = exchange.enclave(health.recent()).await;
    exchange.answer(report.map(|report| {
        serde_json::to_vec(&report)
            .expect("a report is strings and flags")
            .into()
    }))
}
