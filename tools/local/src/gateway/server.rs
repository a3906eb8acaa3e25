//! The HTTP server: authenticates a request, invokes the function and answers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Response};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use cloister_contract::{ErrorChain, events};
use cloister_stand_in::principals::Principals;
use cloister_stand_in::sigv4::{Scope, verify};
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::invocation::Invoker;
use super::proxy_event::{Context, proxy_event};
use super::proxy_response::http_response;
use super::refusal::Refusal;

/// The server.
#[derive(Debug)]
pub(crate) struct Server {
    /// File of principals that may call.
    pub(crate) callers: PathBuf,
    pub(crate) region: String,
    /// The function's name.
    pub(crate) function: String,
    pub(crate) invoker: Invoker,
    /// Time for the function.
    pub(crate) integration: Duration,
}

impl Server {
    /// Serves until `stop`, then finishes what is in flight.
    pub(crate) async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let app = Router::new().fallback(answer).with_state(Arc::new(self));
        let service = app.into_make_service_with_connect_info::<SocketAddr>();
        if let Err(error) = axum::serve(listener, service)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
        {
            tracing::error!(error = %ErrorChain(&error), "the gateway can no longer listen");
        }
    }

    async fn authenticated(
        &self,
        request: Request<Body>,
        context: &Arrival,
    ) -> Result<Response<Body>, Refusal> {
        let (parts, body) = request.into_parts();
        let body = match to_bytes(body, MAX_READ_LEN).await {
            Ok(body) if body.len() <= MAX_BODY_LEN => body,
            _ => return Err(Refusal::too_large(MAX_BODY_LEN)),
        };
        let function = invoked_function(&parts);
        let service = if function.is_some() {
            "lambda"
        } else {
            "execute-api"
        };
        let request = Request::from_parts(parts, body);
        let callers = Principals::read(&self.callers).map_err(|error| {
            tracing::error!(error = %ErrorChain(&error), "failed to read the callers");
            Refusal::internal()
        })?;
        let scope = Scope {
            region: &self.region,
            service,
            window_minutes: WINDOW_MINUTES,
        };
        let (parts, body, caller) = verify(request, &callers, &scope, context.now)
            .await
            .map_err(Refusal::of_signature)?;
        match function {
            Some(name) => self.invoke(&name, &parts, body, context).await,
            None => {
                let Arrival {
                    source,
                    request_id,
                    now,
                    ..
                } = context;
                let event = proxy_event(
                    &parts,
                    &body,
                    &Context {
                        caller: &caller,
                        source: source.ip(),
                        request_id,
                        now: *now,
                    },
                );
                self.call(event, context).await
            }
        }
    }

    /// An API request.
    async fn call(&self, event: Bytes, context: &Arrival) -> Result<Response<Body>, Refusal> {
        // Lambda's request id is another one than API Gateway's.
        match tokio::time::timeout(
            self.integration,
            self.invoker.invoke(Uuid::new_v4().to_string(), event),
        )
        .await
        {
            Err(_) => Err(Refusal::timed_out()),
            Ok(Err(_)) => Err(Refusal::bad_gateway()),
            Ok(Ok(result)) => {
                http_response(&result, &context.request_id_header).ok_or_else(Refusal::bad_gateway)
            }
        }
    }

    /// A direct invoke: <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>.
    async fn invoke(
        &self,
        name: &str,
        parts: &Parts,
        event: Bytes,
        context: &Arrival,
    ) -> Result<Response<Body>, Refusal> {
        if name != self.function {
            return Err(Refusal::no_such_function(name));
        }
        if parts
            .headers
            .get("x-amz-invocation-type")
            .is_some_and(|kind| kind != "RequestResponse")
        {
            return Err(Refusal::invocation_type());
        }
        if event.len() > MAX_INVOKE_LEN {
            return Err(Refusal::too_large(MAX_INVOKE_LEN));
        }
        // No event is the empty object.
        let event = if event.is_empty() {
            Bytes::from_static(b"{}")
        } else {
            event
        };
        serde_json::from_slice::<&RawValue>(&event).map_err(|_| Refusal::event_is_not_json())?;
        let response = Response::builder()
            .header("content-type", "application/json")
            .header("x-amz-executed-version", "$LATEST")
            .header("x-amzn-requestid", &context.request_id_header);
        let response = match self.invoker.invoke(context.request_id.clone(), event).await {
            Ok(result) => response.body(result.into()),
            Err(error) => response
                .header("x-amz-function-error", "Unhandled")
                .body(error.body().into()),
        };
        Ok(response.expect("constants and checked values are header values"))
    }
}

/// Facts about a request before it is read.
struct Arrival {
    source: SocketAddr,
    request_id: String,
    request_id_header: HeaderValue,
    now: DateTime<Utc>,
}

async fn answer(
    State(server): State<Arc<Server>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request<Body>,
) -> Response<Body> {
    let started = Instant::now();
    let request_id = Uuid::new_v4().to_string();
    let request_id_header = HeaderValue::from_str(&request_id).expect("a UUID is ASCII");
    let context = Arrival {
        source,
        request_id,
        request_id_header,
        now: Utc::now(),
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match server.authenticated(request, &context).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(&context.request_id_header),
    };
    let (request_id, status) = (&context.request_id, response.status().as_u16());
    let ms = started.elapsed().as_secs_f64() * 1000.0;
    tracing::info!(
        event = events::REQUEST_ANSWERED,
        request_id,
        %method,
        path,
        status,
        ms,
        "answered"
    );
    response
}

/// The function that a request to Lambda's own API names.
fn invoked_function(parts: &Parts) -> Option<String> {
    let name = parts
        .uri
        .path()
        .strip_prefix("/2015-03-31/functions/")?
        .strip_suffix("/invocations")?;
    Some(name.to_owned())
}

/// API Gateway accepts signatures made five minutes before or after now.
const WINDOW_MINUTES: i64 = 5;
/// Longest body that API Gateway takes, in bytes.
const MAX_BODY_LEN: usize = 10 * 1024 * 1024;
/// Longest event of a direct invoke, in bytes.
const MAX_INVOKE_LEN: usize = 6 * 1024 * 1024;
/// A longer body closes the connection without an answer: a client that still sends does not read
/// one.
const MAX_READ_LEN: usize = 4 * MAX_BODY_LEN;
