//! One request of the front door, from its arrival to its answer and its line in the log.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use cloister_protocol::limits::REQUEST_DEADLINE;
use cloister_protocol::{KeyId, Rejection};

/// What is known of a request besides its body.
#[derive(Debug)]
pub(crate) struct Exchange {
    request_id: String,
    operation: &'static str,
    /// From the path.
    pub(crate) key_id: Option<KeyId>,
    arrived: Instant,
    storage: Duration,
    enclave: Duration,
}

impl Exchange {
    pub(crate) fn begin(operation: &'static str, headers: &HeaderMap) -> Self {
        let request_id = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|id| is_request_id(id));
        Self {
            request_id: request_id.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned),
            operation,
            key_id: None,
            arrived: Instant::now(),
            storage: Duration::ZERO,
            enclave: Duration::ZERO,
        }
    }

    /// How much of [`REQUEST_DEADLINE`] is left.
    pub(crate) fn remaining(&self) -> Duration {
        REQUEST_DEADLINE.saturating_sub(self.arrived.elapsed())
    }

    /// Waits for storage, and counts the time.
    pub(crate) async fn storage<T>(&mut self, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let outcome = work.await;
        self.storage += began.elapsed();
        outcome
    }

    /// Waits for the enclave, and counts the time.
    pub(crate) async fn enclave<T>(&mut self, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let outcome = work.await;
        self.enclave += began.elapsed();
        outcome
    }

    /// The answer. Bodies are not logged, in either direction.
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
            request_id = self.request_id,
            operation = self.operation,
            key_id = self.key_id.map(tracing::field::display),
            code,
            pod_ms,
            storage_ms,
            enclave_ms,
            "request"
        );
        let (mut response, retry_after) = match outcome {
            Ok(result) => (Response::new(Body::from(result)), None),
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
        let timing =
            format!("pod;dur={pod_ms}, storage;dur={storage_ms}, enclave;dur={enclave_ms}");
        for (name, value) in [(SERVER_TIMING, &timing), (REQUEST_ID, &self.request_id)] {
            headers.insert(
                name,
                HeaderValue::from_str(value).expect("both are printable ASCII"),
            );
        }
        response
    }
}

/// Only what can be searched for in a log and cannot disturb it.
fn is_request_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:=".contains(&byte))
}

/// To the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// [Server-Timing](https://www.w3.org/TR/server-timing/).
const SERVER_TIMING: &str = "server-timing";
const REQUEST_ID: &str = "x-request-id";
