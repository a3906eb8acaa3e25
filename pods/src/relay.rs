//! From an HTTP body to a request of the enclave's.

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

use crate::exchange::Exchange;
use crate::presence::Presence;

/// The way to the enclave, shared by all requests.
#[derive(Debug)]
pub struct Relay {
    enclave: Client,
    presence: Presence,
    room: Arc<Semaphore>,
    /// Told when an answer shows that the enclave has lost what it needs.
    lost: Arc<Notify>,
}

impl Relay {
    pub(crate) fn new(enclave: Client, presence: Presence, lost: Arc<Notify>) -> Self {
        Self {
            enclave,
            presence,
            room: Arc::new(Semaphore::new(MAX_QUEUED)),
            lost,
        }
    }

    /// A place for one more request.
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
                gone = self.presence.gone() => Err(gone),
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

/// The whole body of at most `limit` bytes, unread.
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
