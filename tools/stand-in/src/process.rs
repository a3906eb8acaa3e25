//! A stand-in as a process: logging, signals, exit code.

use std::error::Error;
use std::process::ExitCode;

use cloister_contract::{ErrorChain, events};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::StandInError;

/// Logs JSON lines to standard output, filtered by `RUST_LOG`; the default level is INFO.
pub fn start_logging() {
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|filter| filter.parse::<Targets>().ok());
    // The signature library logs what was signed, session tokens included.
    let filter = filter
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
        .with_target("scratchstack_aws_signature", LevelFilter::OFF);
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().json().flatten_event(true))
        .with(filter)
        .init();
}

/// Runs a program's main function to its end; an error is logged with its causes.
pub async fn run<E: Error + 'static>(main: impl Future<Output = Result<(), E>>) -> ExitCode {
    match main.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(event = events::PROGRAM_FAILED, error = %ErrorChain(&error), "stopped");
            ExitCode::FAILURE
        }
    }
}

/// Starts to watch for SIGTERM and SIGINT; the future resolves with the first of them.
///
/// # Errors
/// If they cannot be watched.
pub fn stop_signal() -> Result<impl Future<Output = ()>, StandInError> {
    let watch = |kind| signal(kind).map_err(StandInError::Signals);
    let mut terminate = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
