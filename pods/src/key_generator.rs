//! The routes of the key generator's pod. Requests are never repeated: a second attempt would create
//! a second key.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use cloister_contract::Service;
use cloister_protocol::limits::MAX_BODY_LEN;
use cloister_protocol::message::{HealthReport, Request};
use cloister_protocol::{Code, Operation, Rejection};
use cloister_transport::Client;

use crate::http::exchange::Exchange;
use crate::http::relay::Relay;
use crate::service::PodService;

/// The service-specific part of the key generator's pod.
#[derive(Clone, Copy, Debug)]
pub struct KeyGenerator;

impl PodService for KeyGenerator {
    const SERVICE: Service = Service::KeyGenerator;

    fn routes(self: Arc<Self>, relay: Arc<Relay>) -> Router {
        Router::new()
            .route("/v1/generate_key", post(generate_key))
            .route("/v1/set_key", post(set_key))
            .with_state(relay)
    }

    async fn complete(&self, _: &Client) -> Result<HealthReport, Rejection> {
        Err(Rejection::new(
            Code::NotReady,
            "the key generator has adopted its CMK but is not ready",
        ))
    }
}

async fn generate_key(State(relay): State<Arc<Relay>>, request: HttpRequest) -> Response {
    forward(&relay, "generate_key", Operation::GenerateKey, request).await
}

async fn set_key(State(relay): State<Arc<Relay>>, request: HttpRequest) -> Response {
    forward(&relay, "set_key", Operation::SetKey, request).await
}

async fn forward(
    relay: &Relay,
    name: &'static str,
    operation: Operation,
    request: HttpRequest,
) -> Response {
    let mut exchange = Exchange::begin(name, request.headers());
    let outcome = create(relay, &mut exchange, operation, request).await;
    exchange.answer(outcome)
}

async fn create(
    relay: &Relay,
    exchange: &mut Exchange,
    operation: Operation,
    request: HttpRequest,
) -> Result<Bytes, Rejection> {
    let (body, admission) = relay.admit(request.into_body(), MAX_BODY_LEN).await?;
    exchange.admission = Some(admission);
    relay
        .call(
            exchange,
            Request {
                operation,
                parts: vec![body],
            },
        )
        .await
}
