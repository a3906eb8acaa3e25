//! Logs one JSON object per line on standard output, which is the enclave's console.

use std::error::Error;
use std::panic::PanicHookInfo;
use std::process::ExitCode;

use cloister_contract::{ErrorChain, events};
use cloister_protocol::Rejection;
use cloister_protocol::message::Request;
use cloister_transport::Handler;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument as _, Level, Span, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::wipe::wiped;

/// Starts logging at a fixed level: below it, the HTTP stack would print what it sends. Panics are
/// logged by their place alone, because the value of a panic may hold anything.
pub fn start() {
    tracing::subscriber::set_global_default(subscriber(std::io::stdout))
        .expect("logging is started once");
    std::panic::set_hook(Box::new(log_panic));
}

fn subscriber<W>(writer: W) -> impl Subscriber
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let levels = Targets::new()
        .with_default(Level::INFO)
        // The AWS SDK's warnings quote whole responses, and with them parts of signed requests.
        .with_target("aws_", Level::ERROR);
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_writer(writer);
    tracing_subscriber::registry().with(json).with(levels)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::error!(event = events::PANICKED, place, "panicked");
}

/// Logs the error with which a program ends.
pub(crate) fn failed(error: &dyn Error) -> ExitCode {
    tracing::error!(
        event = events::PROGRAM_FAILED,
        error = %ErrorChain(error),
        "the enclave ends"
    );
    ExitCode::FAILURE
}

/// Adds the key to the log line of the current request.
pub fn record_key(key_id: cloister_protocol::KeyId) {
    Span::current().record("key_id", tracing::field::display(key_id));
}

/// Logs every request that a handler carries out: operation, key, outcome, time; nothing of its
/// content.
#[derive(Debug)]
pub(crate) struct Logged<H>(pub(crate) H);

impl<H: Handler> Handler for Logged<H> {
    async fn handle(&self, request: Request) -> Result<Vec<u8>, Rejection> {
        let operation = request.operation;
        let span = tracing::info_span!("request", ?operation, key_id = Empty);
        async {
            let start = Instant::now();
            let outcome = wiped(self.0.handle(request)).await;
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            match &outcome {
                Ok(_) => tracing::debug!(micros, "answered"),
                // Only the code: field and sentence may repeat a member's name, which is the
                // caller's.
                Err(rejection) => tracing::info!(
                    event = events::REQUEST_ANSWERED,
                    code = rejection.code.as_str(),
                    micros,
                    "refused"
                ),
            }
            outcome
        }
        .instrument(span)
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::platform::BootError;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn warnings_of_the_aws_sdk_are_not_logged() {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(move || writer.clone()), || {
            tracing::warn!(target: "aws_smithy_runtime::client", "a whole response");
            tracing::debug!("too detailed");
            tracing::warn!("ours");
        });
        let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(logged.lines().count(), 1, "{logged}");
        assert!(logged.contains("\"message\":\"ours\""), "{logged}");
    }

    #[test]
    fn an_error_is_logged_with_all_its_causes() {
        let lines = Lines::default();
        let writer = lines.clone();
        let error = BootError::Listen(io::Error::other(io::Error::from(
            io::ErrorKind::PermissionDenied,
        )));
        tracing::subscriber::with_default(subscriber(move || writer.clone()), || {
            failed(&error);
        });
        let logged = lines.0.lock().unwrap();
        let line: serde_json::Value = serde_json::from_slice(&logged).unwrap();
        assert_eq!(line["event"], events::PROGRAM_FAILED);
        assert_eq!(
            line["error"],
            "failed to listen for the pod: permission denied"
        );
    }
}
