//! What the pod of the signer serves: it fetches the key's sealed row and hands both to the
//! enclave.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request as HttpRequest, State};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use cloister_keystore::{Consistency, KeyStore};
use cloister_protocol::limits::MAX_AUTHENTICATED_LEN;
use cloister_protocol::message::{HealthReport, Request};
use cloister_protocol::{Code, KeyId, Operation, Rejection, SealedRow};
use cloister_transport::Client;
use tokio::time::timeout;

use crate::exchange::Exchange;
use crate::relay::{Relay, collect};
use crate::run::Service;
use crate::supervisor::ask;

/// The signer, with the table it reads.
#[derive(Debug)]
pub struct Signer<K> {
    rows: K,
}

impl<K: KeyStore> Signer<K> {
    /// A signer of the keys in `rows`.
    pub fn new(rows: K) -> Self {
        Self { rows }
    }

    /// The key's row. A new key may be missing from an eventually consistent read, which costs half
    /// as much and is all that a key in use ever needs: only a miss is read again.
    async fn row(&self, key_id: KeyId) -> Result<SealedRow, Rejection> {
        for consistency in [Consistency::Eventual, Consistency::Strong] {
            if let Some(row) = self.rows.fetch(key_id, consistency).await? {
                return Ok(row);
            }
        }
        Err(Rejection::new(Code::KeyNotFound, "no key of this id"))
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
            .and_then(|Path(text)| text.parse().ok())
            .ok_or_else(|| Rejection::invalid("key_id", "must be a lower-case UUID"))?;
        exchange.key_id = Some(key_id);
        let _place = relay.admit()?;
        let body = collect(request.into_body(), MAX_AUTHENTICATED_LEN).await?;
        let remaining = exchange.remaining();
        let row = exchange
            .storage(timeout(remaining, self.row(key_id)))
            .await
            .map_err(|_| late())??;
        let row = serde_json::to_vec(&row).expect("a row is plain data");
        let request = Request {
            operation: Operation::SignTransaction,
            parts: vec![body, row.into()],
        };
        match relay.call(exchange, request.clone()).await {
            // The connection was dead. The same request gives the same signature (RFC 6979), so
            // once more does no harm.
            Err(rejection) if rejection.code == Code::EnclaveUnavailable => {
                relay.call(exchange, request).await
            }
            outcome => outcome,
        }
    }
}

impl<K: KeyStore> Service for Signer<K> {
    const NAME: &'static str = "signer";

    fn routes(self: Arc<Self>, relay: Arc<Relay>) -> Router {
        Router::new()
            .route("/v1/sign_transaction/{key_id}", post(sign_transaction::<K>))
            .with_state((self, relay))
    }

    /// Shows the enclave the canary row of the current key generator.
    async fn complete(&self, enclave: &Client) -> Result<HealthReport, Rejection> {
        let canary = timeout(
            CANARY_DEADLINE,
            self.rows.fetch(KeyId::CANARY, Consistency::Strong),
        )
        .await
        .map_err(|_| late())??
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

fn late() -> Rejection {
    Rejection::new(Code::StorageUnavailable, "the table did not answer in time")
}

/// For reading the canary row.
const CANARY_DEADLINE: Duration = Duration::from_secs(5);
