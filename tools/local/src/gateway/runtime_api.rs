//! The Lambda Runtime API of one execution environment:
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};
use cloister_contract::ErrorChain;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::invocation::{FunctionError, Outcome, Queue};

/// The Runtime API of one process, on its own loopback port.
#[derive(Debug)]
pub(crate) struct RuntimeApi {
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<Environment>,
}

#[derive(Debug)]
struct Environment {
    queue: Queue,
    arn: String,
    timeout: Duration,
    /// The event that the process works on.
    current: Mutex<Option<Current>>,
    /// Deadline of that event.
    due: watch::Sender<Option<Instant>>,
}

#[derive(Debug)]
struct Current {
    id: String,
    answer: oneshot::Sender<Outcome>,
}

impl RuntimeApi {
    /// An API that hands out what is in `queue` to the function `arn`, which has `timeout` for each
    /// event.
    pub(crate) async fn bind(queue: Queue, arn: String, timeout: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (due, current) = (watch::Sender::new(None), Mutex::new(None));
        Ok(Self {
            listener,
            address,
            state: Arc::new(Environment {
                queue,
                arn,
                timeout,
                current,
                due,
            }),
        })
    }

    /// For `AWS_LAMBDA_RUNTIME_API`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped; then every connection is closed too, which ends a process that
    /// is still there.
    pub(crate) async fn serve(&self) -> Infallible {
        let app = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route(
                "/2018-06-01/runtime/invocation/{id}/response",
                post(response),
            )
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .layer(DefaultBodyLimit::max(MAX_RESULT_LEN))
            .with_state(self.state.clone());
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let service = TowerToHyperService::new(app.clone());
                        let connection =
                            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                        connections.spawn(async move {
                            if let Err(error) = connection.await {
                                tracing::debug!(error = %ErrorChain(&error), "a connection of the Runtime API ended");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(error = %ErrorChain(&error), "the Runtime API failed to accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// Waits until an event takes longer than it may.
    pub(crate) async fn overdue(&self) {
        let mut due = self.state.due.subscribe();
        loop {
            let at = *due.borrow_and_update();
            tokio::select! {
                () = async { tokio::time::sleep_until(at.unwrap_or_else(Instant::now)).await }, if at.is_some() => return,
                _ = due.changed() => {}
            }
        }
    }

    /// The process is gone: answers what it worked on.
    pub(crate) fn fail(&self, error: FunctionError) {
        if let Some(current) = self.state.take(None) {
            // The caller may have stopped waiting.
            let _ = current.answer.send(Err(error));
        }
    }
}

impl Environment {
    /// Takes the current event out; with `id` only if it is that one.
    fn take(&self, id: Option<&str>) -> Option<Current> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = current.take_if(|current| id.is_none_or(|id| id == current.id))?;
        self.due.send_replace(None);
        Some(taken)
    }

    fn finish(&self, id: &str, outcome: Outcome) -> StatusCode {
        match self.take(Some(id)) {
            Some(current) => {
                // The caller may have run into the gateway's timeout.
                let _ = current.answer.send(outcome);
                StatusCode::ACCEPTED
            }
            None => StatusCode::BAD_REQUEST,
        }
    }
}

async fn next(State(environment): State<Arc<Environment>>) -> Response<Body> {
    let Some(invocation) = environment.queue.next().await else {
        // The gateway is going away; the connection will be closed.
        return std::future::pending().await;
    };
    // A process that asks for the next event has given up on the one before.
    if let Some(current) = environment.take(None) {
        let _ = current.answer.send(Err(FunctionError::Exited));
    }
    let due = SystemTime::now() + environment.timeout;
    let due = due
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", &invocation.id)
        .header("lambda-runtime-deadline-ms", due.to_string())
        .header("lambda-runtime-invoked-function-arn", &environment.arn)
        .body(invocation.event.into())
        .expect("ids, numbers and ARNs are header values");
    let current = Current {
        id: invocation.id,
        answer: invocation.answer,
    };
    *environment
        .current
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = Some(current);
    environment
        .due
        .send_replace(Some(Instant::now() + environment.timeout));
    response
}

async fn response(
    State(environment): State<Arc<Environment>>,
    Path(id): Path<String>,
    body: Bytes,
) -> StatusCode {
    environment.finish(&id, Ok(body))
}

async fn error(
    State(environment): State<Arc<Environment>>,
    Path(id): Path<String>,
    body: Bytes,
) -> StatusCode {
    environment.finish(&id, Err(FunctionError::Reported(body)))
}

async fn init_error() -> StatusCode {
    tracing::warn!("the function could not initialise");
    StatusCode::ACCEPTED
}

/// Longest result of a function that is invoked synchronously, in bytes.
const MAX_RESULT_LEN: usize = 6 * 1024 * 1024;
/// Out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
