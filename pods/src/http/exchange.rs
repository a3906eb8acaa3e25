//! One request, from its arrival to its response and its log line.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use cloister_contract::{RequestId, events};
use cloister_protocol::front_door::REQUEST_ID_HEADER;
use cloister_protocol::limits::REQUEST_DEADLINE;
use cloister_protocol::{KeyId, Rejection};

use crate::http::admission::Admission;

/// A request without its body, and the time spent on it.
#[derive(Debug)]
pub(crate) struct Exchange {
    request_id: RequestId,
    operation: &'static str,
    /// The key id of the request's path.
    pub(crate) key_id: Option<KeyId>,
    /// Held until the response has been written.
    pub(crate) admission: Option<Admission>,
    arrived: Instant,
    storage: Duration,
    enclave: Duration,
}

impl Exchange {
    pub(crate) fn begin(operation: &'static str, headers: &HeaderMap) -> Self {
        let request_id = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or_else(new_request_id);
        Self {
            request_id,
            operation,
            key_id: None,
            admission: None,
            arrived: Instant::now(),
            storage: Duration::ZERO,
            enclave: Duration::ZERO,
        }
    }

    /// The rest of [`REQUEST_DEADLINE`].
    pub(crate) fn remaining(&self) -> Duration {
        REQUEST_DEADLINE.saturating_sub(self.arrived.elapsed())
    }

    /// Awaits storage and adds up the time.
    pub(crate) async fn storage<T>(&mut self, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let outcome = work.await;
        self.storage += began.elapsed();
        outcome
    }

    /// Awaits the enclave and adds up the time.
    pub(crate) async fn enclave<T>(&mut self, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let outcome = work.await;
        self.enclave += began.elapsed();
        outcome
    }

    /// Logs the request, without bodies and with its times, and returns the response, without times:
    /// they would tell callers which keys others use.
    pub(crate) fn answer(self, outcome: Result<Bytes, Rejection>) -> Response {
        let pod = self
            .arrived
            .elapsed()
            .saturating_sub(self.storage + self.enclave);
        let [pod_ms, storage_ms, enclave_ms] = [pod, self.storage, self.enclave].map(milliseconds);
        let code = outcome
            .as_ref()
            .map_or_else(|rejection| rejection.code.as_str(), |_| "ok");
        tracing::info!(
            event = events::REQUEST_ANSWERED,
            request_id = %self.request_id,
            operation = self.operation,
            key_id = self.key_id.map(tracing::field::display),
            code,
            pod_ms,
            storage_ms,
            enclave_ms,
            "request answered"
        );
        let (mut response, retry_after) = match outcome {
            Ok(result) => {
                let body = Bytes::from_owner(HeldResult {
                    result,
                    _admission: self.admission,
                });
                (Response::new(Body::from(body)), None)
            }
            Err(rejection) => {
                let mut response = Response::new(Body::from(
                    serde_json::to_vec(&rejection).expect("a rejection is strings only"),
                ));
                *response.status_mut() = StatusCode::from_u16(rejection.code.http_status())
                    .expect("every code has a valid status");
                (response, rejection.code.retry_after())
            }
        };
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        let request_id = HeaderValue::from_str(self.request_id.as_str())
            .expect("request ids are printable ASCII");
        headers.insert(REQUEST_ID, request_id);
        response
    }
}

/// The bytes of a response, which keep the request's admission until the last of them is dropped.
struct HeldResult {
    result: Bytes,
    _admission: Option<Admission>,
}

impl AsRef<[u8]> for HeldResult {
    fn as_ref(&self) -> &[u8] {
        &self.result
    }
}

fn new_request_id() -> RequestId {
    let id = uuid::Uuid::new_v4().to_string();
    id.try_into().expect("a UUID is a valid request id")
}

/// To the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

const REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID_HEADER);
