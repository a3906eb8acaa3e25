//! The plain port: liveness, readiness, version and attestation.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use cloister_contract::Service;
use cloister_protocol::{Operation, Rejection, message};
use cloister_transport::Client;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::enclave::health::EnclaveHealth;
use crate::enclave::readiness::LastProblem;
use crate::front_door_keys::Keyring;
use crate::http::exchange::Exchange;

/// State of the plain port.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) service: Service,
    pub(crate) health: Arc<EnclaveHealth>,
    pub(crate) last_problem: LastProblem,
    pub(crate) draining: CancellationToken,
    pub(crate) front_door_keys: Keyring,
    pub(crate) enclave: Client,
}

impl Admin {
    pub(crate) fn routes(self) -> Router {
        Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/version", get(version))
            .route("/attestation/{nonce}", get(attestation))
            .with_state(self)
    }
}

/// Liveness only. Enclave failures are excluded because restarting the pod does not fix them.
async fn healthz() -> &'static str {
    "ok\n"
}

#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enclave: Option<message::HealthReport>,
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, Json<Readiness>) {
    let report = admin.health.recent().await;
    let reason = match &report {
        _ if admin.draining.is_cancelled() => Some("the pod is shutting down".to_owned()),
        _ if admin.front_door_keys.borrow().is_none() => {
            Some("the front door's key has not been read yet".to_owned())
        }
        Ok(report) if report.state == message::State::Ready => None,
        Ok(_) => Some(
            admin
                .last_problem
                .get()
                .unwrap_or_else(|| "the enclave is not configured yet".to_owned()),
        ),
        Err(rejection) => Some(rejection.to_string()),
    };
    let status = if reason.is_none() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(Readiness {
            ready: reason.is_none(),
            reason,
            enclave: report.ok(),
        }),
    )
}

/// The enclave's proof of its image, for a nonce (hex) of the verifier. The NSM signs it, so the
/// pod need not be trusted.
async fn attestation(
    State(admin): State<Admin>,
    Path(nonce): Path<String>,
    headers: HeaderMap,
) -> Response {
    let mut exchange = Exchange::begin("prove_boot", &headers);
    let outcome = exchange.enclave(proof(&admin.enclave, &nonce)).await;
    exchange.answer(outcome)
}

async fn proof(enclave: &Client, nonce: &str) -> Result<Bytes, Rejection> {
    let nonce =
        const_hex::decode(nonce).map_err(|_| Rejection::invalid("nonce", "expected hex digits"))?;
    enclave
        .call(message::Request {
            operation: Operation::ProveBoot,
            parts: vec![nonce.into()],
        })
        .await
}

#[derive(Debug, Serialize)]
struct Version {
    pod: Service,
    version: &'static str,
    enclave: Option<message::HealthReport>,
}

async fn version(State(admin): State<Admin>) -> Json<Version> {
    let enclave = admin.health.recent().await.ok();
    Json(Version {
        pod: admin.service,
        version: env!("CARGO_PKG_VERSION"),
        enclave,
    })
}
