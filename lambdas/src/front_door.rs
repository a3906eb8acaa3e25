//! Answers one event, and writes its log line.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant, SystemTime};

use cloister_contract::{RequestId, events};
use cloister_protocol::limits::REQUEST_DEADLINE;
use cloister_protocol::{Code, Rejection};
use futures_util::FutureExt as _;
use serde_json::value::RawValue;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::answer::{Refused, Success, error_body, health_body, proxy_response, version_body};
use crate::command::Call;
use crate::event::{Event, GatewayEvent, check_len};
use crate::path::{Path, RequestPath};
use crate::pods::{Pods, Stamp};

/// The function: answers every event.
#[derive(Debug)]
pub struct FrontDoor {
    pods: Pods,
    clock: fn() -> SystemTime,
    deadline: Duration,
}

impl FrontDoor {
    /// A front door to `pods`. `clock` returns the time that requests to pods are stamped with.
    pub fn new(pods: Pods, clock: fn() -> SystemTime) -> Self {
        Self {
            pods,
            clock,
            deadline: REQUEST_DEADLINE,
        }
    }

    /// Answers within `deadline`, which cannot exceed [`REQUEST_DEADLINE`].
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        Self {
            deadline: deadline.min(REQUEST_DEADLINE),
            ..self
        }
    }

    /// Answers one event. A failure is an answer too, and never an error of the function.
    ///
    /// `invocation` is Lambda's request id, used if the event has none.
    pub async fn answer(&self, event: &RawValue, invocation: &str) -> Box<RawValue> {
        let started = Instant::now();
        let event = Event::read(event.get());
        let gateway = event.gateway();
        let request_id = gateway.and_then(GatewayEvent::request_id);
        let request_id = request_id.as_ref().map_or(invocation, RequestId::as_str);
        let gateway_id = gateway.and_then(GatewayEvent::gateway_request_id);
        let span = tracing::info_span!(
            "request",
            request_id,
            gateway_id = gateway_id.map(tracing::field::display),
            trace_id = gateway.and_then(GatewayEvent::trace_id),
            form = Empty,
            operation = Empty,
            key_id = Empty,
        );
        async {
            let work = AssertUnwindSafe(self.carry_out(&event, request_id)).catch_unwind();
            let outcome = match tokio::time::timeout(self.deadline, work).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_panic)) => Err(Rejection::new(Code::Internal, "internal error").into()),
                Err(_elapsed) => {
                    let late = Rejection::new(Code::DeadlineExceeded, "the request took too long");
                    Err(late.into())
                }
            };
            log(&outcome, event.caller(), started);
            let code = outcome.as_ref().err().map(|refused| refused.rejection.code);
            let body = outcome.unwrap_or_else(|refused| error_body(&refused, request_id));
            match event {
                Event::Direct(_) => body,
                Event::Gateway(_) => proxy_response(code, &body, request_id),
            }
        }
        .instrument(span)
        .await
    }

    async fn carry_out(
        &self,
        event: &Event<'_>,
        request_id: &str,
    ) -> Result<Box<RawValue>, Refused> {
        match event {
            Event::Gateway(Ok(event)) => {
                let segments = event.segments()?;
                let path = Path::find(event.method(), &segments)?;
                record("form", path.form());
                match path {
                    Path::Version => {
                        record("operation", "version");
                        Ok(version_body())
                    }
                    Path::Health => {
                        record("operation", "health");
                        health_body(self.pods.health(self.stamp(request_id)).await)
                    }
                    Path::Request(path) => self.call(path, &event.body()?, request_id).await,
                }
            }
            Event::Gateway(Err(rejection)) => Err(rejection.clone().into()),
            Event::Direct(body) => {
                record("form", "direct");
                check_len(body.len())?;
                self.call(RequestPath::Root, body.as_bytes(), request_id)
                    .await
            }
        }
    }

    async fn call(
        &self,
        path: RequestPath<'_>,
        body: &[u8],
        request_id: &str,
    ) -> Result<Box<RawValue>, Refused> {
        let call = Call::identify(path, body)?;
        record("operation", call.operation.as_str());
        let wrapped = call.wrapped;
        let command = call.command(|| seconds((self.clock)()))?;
        if let Some(key_id) = command.key_id() {
            Span::current().record("key_id", tracing::field::display(key_id));
        }
        let answer = self.pods.ask(&command, self.stamp(request_id)).await?;
        Ok(Success::read(&command, &answer)?.body(wrapped))
    }

    fn stamp<'a>(&self, request_id: &'a str) -> Stamp<'a> {
        Stamp {
            request_id,
            timestamp: seconds((self.clock)()),
        }
    }
}

/// Writes the request's line. Bodies are not logged. The caller is named if authentication failed,
/// so that guesses of a secret can be traced.
fn log(outcome: &Result<Box<RawValue>, Refused>, caller: &str, started: Instant) {
    let code = outcome.as_ref().err().map(|refused| refused.rejection.code);
    let status = code.map_or(200, Code::http_status);
    tracing::info!(
        event = events::REQUEST_ANSWERED,
        status,
        code = code.map_or("ok", Code::as_str),
        caller = matches!(status, 403 | 429).then_some(caller),
        ms = started.elapsed().as_secs_f64() * 1000.0,
        "answered"
    );
}

/// Adds a field to the request's span, and with it to its log lines.
fn record(field: &'static str, value: &'static str) {
    Span::current().record(field, value);
}

/// Seconds since the Unix epoch; 0 before it, which no enclave accepts.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
