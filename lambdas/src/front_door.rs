//! One event from start to answer, and its line in the log.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant, SystemTime};

use cloister_protocol::limits::REQUEST_DEADLINE;
use cloister_protocol::{Code, Rejection};
use futures_util::FutureExt as _;
use serde_json::value::RawValue;

use crate::answer::{Success, error_body, proxy_response};
use crate::command::Call;
use crate::event::{Event, GatewayEvent, check_len};
use crate::pods::Pods;
use crate::route::Route;

/// The function: answers events, whatever they are.
#[derive(Debug)]
pub struct FrontDoor {
    pods: Pods,
    clock: fn() -> SystemTime,
    deadline: Duration,
}

impl FrontDoor {
    /// A front door before `pods`; `clock` is the time that signature requests are stamped with.
    pub fn new(pods: Pods, clock: fn() -> SystemTime) -> Self {
        Self {
            pods,
            clock,
            deadline: REQUEST_DEADLINE,
        }
    }

    /// Answers within `deadline`; a longer one than [`REQUEST_DEADLINE`] has no effect.
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        Self {
            deadline: deadline.min(REQUEST_DEADLINE),
            ..self
        }
    }

    /// Answers one event. Every failure is an answer too: nothing here is ever an error of the
    /// function.
    ///
    /// `invocation` is the request id that Lambda gave; an event of API Gateway brings its own.
    pub async fn answer(&self, event: &RawValue, invocation: &str) -> Box<RawValue> {
        let started = Instant::now();
        let event = Event::read(event.get());
        let request_id = match &event {
            Event::Gateway(Ok(event)) => event.request_id().unwrap_or(invocation),
            _ => invocation,
        };
        let mut seen = Seen::default();
        let outcome = tokio::time::timeout(
            self.deadline,
            AssertUnwindSafe(self.carry_out(&event, request_id, &mut seen)).catch_unwind(),
        )
        .await;
        let outcome = match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err(Rejection::new(Code::Internal, "internal error")),
            Err(_elapsed) => Err(Rejection::new(
                Code::DeadlineExceeded,
                "the request took too long",
            )),
        };

        let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
        let status = outcome
            .as_ref()
            .map_or_else(|rejection| rejection.code.http_status(), |_| 200);
        let code = outcome
            .as_ref()
            .map_or_else(|rejection| rejection.code.as_str(), |_| "ok");
        tracing::info!(
            request_id,
            form = seen.form,
            operation = seen.operation,
            status,
            code,
            ms = milliseconds,
            "answered"
        );

        let body = match &outcome {
            Ok(success) => success.body(seen.wrapped),
            Err(rejection) => error_body(rejection, request_id),
        };
        match event {
            Event::Direct(_) => body,
            Event::Gateway(_) => {
                let own = format!("front-door;dur={milliseconds:.1}");
                let timing = seen
                    .timing
                    .map_or_else(|| own.clone(), |pods| format!("{pods}, {own}"));
                proxy_response(
                    outcome.map(|_| ()).map_err(|rejection| rejection.code),
                    &body,
                    request_id,
                    &timing,
                )
            }
        }
    }

    async fn carry_out(
        &self,
        event: &Event<'_>,
        request_id: &str,
        seen: &mut Seen,
    ) -> Result<Success, Rejection> {
        match event {
            Event::Gateway(Ok(event)) => self.gateway(event, request_id, seen).await,
            Event::Gateway(Err(rejection)) => Err(rejection.clone()),
            Event::Direct(body) => {
                seen.form = "direct";
                check_len(body.len())?;
                self.call(Route::Body, body.as_bytes(), request_id, seen)
                    .await
            }
        }
    }

    async fn gateway(
        &self,
        event: &GatewayEvent,
        request_id: &str,
        seen: &mut Seen,
    ) -> Result<Success, Rejection> {
        let segments = event.segments();
        let route = Route::find(event.method(), &segments)?;
        seen.form = route.form();
        let body = event.body()?;
        self.call(route, &body, request_id, seen).await
    }

    async fn call(
        &self,
        route: Route<'_>,
        body: &[u8],
        request_id: &str,
        seen: &mut Seen,
    ) -> Result<Success, Rejection> {
        let call = Call::identify(route, body)?;
        seen.operation = call.operation.as_str();
        seen.wrapped = call.wrapped;
        let command = call.command(|| seconds((self.clock)()))?;
        let answer = match self.pods.ask(&command, request_id).await {
            Some(answer) => {
                seen.timing = answer
                    .timing
                    .and_then(|timing| timing.to_str().ok().map(str::to_owned));
                answer.outcome?
            }
            None => bytes::Bytes::new(),
        };
        Success::read(&command, &answer)
    }
}

/// What is known of a request however it ends.
struct Seen {
    form: &'static str,
    operation: &'static str,
    wrapped: bool,
    timing: Option<String>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            form: "unknown",
            operation: "unknown",
            wrapped: false,
            timing: None,
        }
    }
}

/// Seconds since the Unix epoch; 0 before it, which no enclave accepts.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// An error with its sources, for the log.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
