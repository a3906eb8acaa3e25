//! Structured logs on standard output.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Writes one JSON object per event. `level` is for our own code; of the libraries, whose debug
/// output shows requests and headers, only warnings are logged at any level.
pub fn log_as_json(level: LevelFilter) {
    let ours = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
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
}
