//! Forwards HTTP bodies to the enclave.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use cloister_protocol::limits::{BODY_DEADLINE, MAX_QUEUED};
use cloister_protocol::message::Request;
use cloister_protocol::{Code, Rejection};
use cloister_transport::Client;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::enclave::status::EnclaveStatus;
use crate::http::exchange::Exchange;

/// The connection to the enclave, shared by all requests.
#[derive(Debug)]
pub struct Relay {
    enclave: Client,
    status: EnclaveStatus,
    room: Arc<Semaphore>,
    /// Notified when an answer shows that the enclave is not ready any more.
    lost: Arc<Notify>,
}

impl Relay {
    pub(crate) fn new(enclave: Client, status: EnclaveStatus, lost: Arc<Notify>) -> Self {
        Self {
            enclave,
            status,
            room: Arc::new(Semaphore::new(MAX_QUEUED)),
            lost,
        }
    }

    /// Admits one more request until the permit is dropped.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, Rejection> {
        let full = |_| Rejection::new(Code::Busy, "too many requests are waiting; try again");
        self.room.clone().try_acquire_owned().map_err(full)
    }

    pub(crate) async fn call(
        &self,
        exchange: &mut Exchange,
        request: Request,
    ) -> Result<Bytes, Rejection> {
        let remaining = exchange.remaining();
        let work = async {
            tokio::select! {
                biased;
                stopped = self.status.wait_stopped() => Err(stopped),
                outcome = self.enclave.call_within(request, remaining) => outcome,
            }
        };
        let outcome = exchange.enclave(work).await;
        if let Err(rejection) = &outcome
            && matches!(rejection.code, Code::NotReady | Code::EnclaveUnavailable)
        {
            self.lost.notify_one();
        }
        outcome
    }
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn collect(body: Body, limit: usize) -> Result<Bytes, Rejection> {
    match timeout(BODY_DEADLINE, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Rejection::new(Code::BodyTooLarge, "the body is too large"))
        }
        Ok(Err(_)) => Err(Rejection::new(
            Code::MalformedJson,
            "the body did not arrive whole",
        )),
        Err(_) => Err(Rejection::new(
            Code::DeadlineExceeded,
            "the body did not arrive in time",
        )),
    }
}

pub(crate) async fn unknown_route(headers: HeaderMap) -> Response {
    Exchange::begin("unknown", &headers).answer(Err(Rejection::new(
        Code::UnknownRoute,
        "no such route or method",
    )))
}
