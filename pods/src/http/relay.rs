//! Forwards HTTP bodies to the enclave.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use cloister_protocol::limits::{BODY_DEADLINE, MAX_QUEUED};
use cloister_protocol::message::Request;
use cloister_protocol::{Code, Rejection};
use cloister_transport::{ByteBudget, Charge, Client};
use http_body_util::BodyExt as _;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::enclave::status::EnclaveStatus;
use crate::http::admission::Admission;
use crate::http::exchange::Exchange;

/// The connection to the enclave, shared by all requests.
#[derive(Debug)]
pub struct Relay {
    enclave: Client,
    status: EnclaveStatus,
    room: Arc<Semaphore>,
    budget: ByteBudget,
    /// Notified when an answer shows that the enclave is not ready any more.
    lost: Arc<Notify>,
}

impl Relay {
    pub(crate) fn new(
        enclave: Client,
        status: EnclaveStatus,
        budget: ByteBudget,
        lost: Arc<Notify>,
    ) -> Self {
        Self {
            enclave,
            status,
            room: Arc::new(Semaphore::new(MAX_QUEUED)),
            budget,
            lost,
        }
    }

    /// Reads a body of at most `limit` bytes, and then takes a place in the queue for it: a body that
    /// is still arriving takes memory, but no place.
    pub(crate) async fn admit(
        &self,
        body: Body,
        limit: usize,
    ) -> Result<(Bytes, Admission), Rejection> {
        let (body, charge) = timeout(BODY_DEADLINE, collect(body, limit, &self.budget))
            .await
            .unwrap_or_else(|_| {
                Err(Rejection::new(
                    Code::DeadlineExceeded,
                    "the body did not arrive in time",
                ))
            })?;
        let full = |_| Rejection::new(Code::Busy, "too many requests are waiting; try again");
        let place = self.room.clone().try_acquire_owned().map_err(full)?;
        Ok((body, Admission::new(place, charge)))
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

async fn collect(
    mut body: Body,
    limit: usize,
    budget: &ByteBudget,
) -> Result<(Bytes, Charge), Rejection> {
    let mut charge = budget.charge();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|_| Rejection::new(Code::MalformedJson, "the body did not arrive whole"))?;
        // Trailers mean nothing here.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = bytes.len() + data.len();
        if length > limit {
            return Err(Rejection::new(Code::BodyTooLarge, "the body is too large"));
        }
        if length > bytes.capacity() {
            let capacity = (2 * bytes.capacity()).min(limit).max(length);
            if let Err(busy) = charge.grow_to(capacity) {
                drop((bytes, charge));
                discard(body, limit - length).await;
                return Err(busy);
            }
            let mut grown = BytesMut::with_capacity(capacity);
            grown.put_slice(&bytes);
            bytes = grown;
        }
        bytes.put_slice(&data);
    }
    Ok((bytes.freeze(), charge))
}

/// Reads the rest of a body of at most `limit` bytes: a client that is still sending would miss an
/// earlier response.
async fn discard(mut body: Body, mut limit: usize) {
    while let Some(Ok(frame)) = body.frame().await {
        match limit.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => limit = rest,
            None => return,
        }
    }
}

pub(crate) async fn unknown_route(headers: HeaderMap) -> Response {
    Exchange::begin("unknown", &headers).answer(Err(Rejection::new(
        Code::UnknownRoute,
        "no such route or method",
    )))
}
