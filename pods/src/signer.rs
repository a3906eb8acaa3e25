//! The route of the signer's pod: fetches the key's sealed row and forwards it with the request.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request as HttpRequest, State};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use cloister_contract::Service;
use cloister_keystore::{Consistency, KeyStore};
use cloister_protocol::limits::MAX_AUTHENTICATED_LEN;
use cloister_protocol::message::{HealthReport, Request};
use cloister_protocol::{Code, KeyId, Operation, Rejection, SealedRow};
use cloister_transport::Client;
use tokio::time::timeout;

use crate::enclave::health::ask;
use crate::http::exchange::Exchange;
use crate::http::relay::Relay;
use crate::service::PodService;

/// The service-specific part of the signer's pod.
#[derive(Debug)]
pub struct Signer<K> {
    rows: K,
}

impl<K: KeyStore> Signer<K> {
    /// A signer of the keys in `rows`.
    pub fn new(rows: K) -> Self {
        Self { rows }
    }

    /// The key's row. An eventually consistent read costs half as much and finds every key that is
    /// in use; a new key may be missing from it, so a miss is read again consistently.
    async fn row(&self, key_id: KeyId) -> Result<SealedRow, Rejection> {
        for consistency in [Consistency::Eventual, Consistency::Strong] {
            if let Some(row) = self.rows.fetch(key_id, consistency).await? {
                return Ok(row);
            }
        }
        Err(unknown_key())
    }

    async fn sign(
        &self,
        relay: &Relay,
        exchange: &mut Exchange,
        key_id: Result<Path<String>, PathRejection>,
        request: HttpRequest,
    ) -> Result<Bytes, Rejection> {
        let key_id = key_id
            .ok()
            .and_then(|Path(text)| text.parse::<KeyId>().ok())
            .ok_or_else(|| Rejection::invalid("key_id", "must be a lower-case UUID"))?;
        exchange.key_id = Some(key_id);
        key_id.of_caller()?;
        let (body, admission) = relay
            .admit(request.into_body(), MAX_AUTHENTICATED_LEN)
            .await?;
        exchange.admission = Some(admission);
        let remaining = exchange.remaining();
        let row = exchange
            .storage(timeout(remaining, self.row(key_id)))
            .await
            .map_err(|_| table_timeout())??;
        let row = serde_json::to_vec(&row).expect("a row is plain data");
        let request = Request {
            operation: Operation::SignTransaction,
            parts: vec![body, row.into()],
        };
        match relay.call(exchange, request.clone()).await {
            // The connection was dead. Repeating is safe: the same request has the same signature
            // (RFC 6979).
            Err(rejection) if rejection.code == Code::EnclaveUnavailable => {
                relay.call(exchange, request).await
            }
            outcome => outcome,
        }
    }
}

impl<K: KeyStore> PodService for Signer<K> {
    const SERVICE: Service = Service::Signer;

    fn routes(self: Arc<Self>, relay: Arc<Relay>) -> Router {
        Router::new()
            .route("/v1/sign_transaction/{key_id}", post(sign_transaction::<K>))
            .with_state((self, relay))
    }

    /// Sends the canary row of the current key generator to the enclave.
    async fn complete(&self, enclave: &Client) -> Result<HealthReport, Rejection> {
        let canary = timeout(
            CANARY_DEADLINE,
            self.rows.fetch(KeyId::CANARY, Consistency::Strong),
        )
        .await
        .map_err(|_| table_timeout())??
        .ok_or_else(|| {
            Rejection::new(
                Code::NotReady,
                "no canary row: the key generator has not written one yet",
            )
        })?;
        let row = serde_json::to_vec(&canary).expect("a row is plain data");
        ask(
            enclave,
            Request {
                operation: Operation::OpenCanary,
                parts: vec![row.into()],
            },
        )
        .await
    }

    /// Opens the canary row again: it is read from the table, and its data key is decrypted by KMS.
    async fn probe(&self, enclave: &Client, _: HealthReport) -> Result<HealthReport, Rejection> {
        self.complete(enclave).await
    }
}

async fn sign_transaction<K: KeyStore>(
    State((signer, relay)): State<(Arc<Signer<K>>, Arc<Relay>)>,
    key_id: Result<Path<String>, PathRejection>,
    request: HttpRequest,
) -> Response {
    let mut exchange = Exchange::begin("sign_transaction", request.headers());
    let outcome = signer.sign(&relay, &mut exchange, key_id, request).await;
    exchange.answer(outcome)
}

fn unknown_key() -> Rejection {
    Rejection::new(Code::KeyNotFound, "unknown key id")
}

fn table_timeout() -> Rejection {
    Rejection::new(Code::StorageUnavailable, "the table did not answer in time")
}

/// Timeout for reading the canary row.
const CANARY_DEADLINE: Duration = Duration::from_secs(5);
