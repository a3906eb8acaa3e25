//! Structured logs on standard output.

use std::error::Error;

use cloister_contract::{ErrorChain, events};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Writes one JSON object per event, panics included. `level` applies to our own code; libraries,
/// whose debug output shows requests and headers, log warnings at most.
pub fn log_as_json(level: LevelFilter) {
    let ours = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // The AWS SDK's warnings quote whole responses, and with them parts of signed requests.
        .with_target("aws_", level.min(LevelFilter::ERROR))
        .with_target("cloister", level)
        // The name of a binary's own target has no common prefix with that of the library.
        .with_target("key_generator_pod", level)
        .with_target("signer_pod", level);
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false);
    tracing_subscriber::registry().with(json).with(ours).init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(tracing::field::display);
        tracing::error!(event = events::PANICKED, place, "panicked");
    }));
}

/// Logs the error that ends a pod.
pub fn report_failure(error: &(dyn Error + 'static)) {
    tracing::error!(
        event = events::PROGRAM_FAILED,
        error = %ErrorChain(error),
        "the pod failed"
    );
}
