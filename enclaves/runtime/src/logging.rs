//! Logs: one JSON object per line on standard output, which is the enclave's console.

use std::panic::PanicHookInfo;

use cloister_protocol::Rejection;
use cloister_protocol::message::Request;
use cloister_transport::Handler;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument as _, Level, Span};

/// Starts logging at a fixed level: below it, the HTTP stack would print what it sends. Panics are
/// logged by their place alone, because what was panicked with may hold anything.
pub fn start() {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_max_level(Level::INFO)
        .init();
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::error!(place, "panicked");
}

/// Says which key the request at hand is about, for its log line.
pub fn record_key(key_id: cloister_protocol::KeyId) {
    Span::current().record("key_id", tracing::field::display(key_id));
}

/// Logs every request that a handler carries out: operation, key, outcome, time; nothing of what it
/// holds.
#[derive(Debug)]
pub(crate) struct Logged<H>(pub(crate) H);

impl<H: Handler> Handler for Logged<H> {
    async fn handle(&self, request: Request) -> Result<Vec<u8>, Rejection> {
        let operation = request.operation;
        let span = tracing::info_span!("request", ?operation, key_id = Empty);
        async {
            let start = Instant::now();
            let outcome = self.0.handle(request).await;
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            match &outcome {
                Ok(_) => tracing::debug!(micros, "answered"),
                // The code alone: field and sentence may repeat a member's name, which is the
                // caller's.
                Err(rejection) => tracing::info!(code = rejection.code.as_str(), micros, "refused"),
            }
            outcome
        }
        .instrument(span)
        .await
    }
}
