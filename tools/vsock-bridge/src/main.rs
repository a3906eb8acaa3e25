#![doc = include_str!("../README.md")]
// A command-line tool: standard output is where its answer goes.
#![allow(clippy::print_stdout)]

mod config;
mod descriptors;
mod metrics;
mod run;

use std::process::ExitCode;

use clap::Parser as _;
use cloister_contract::{ErrorChain, events};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Arguments, Configuration};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (check, level) = (arguments.check, arguments.log_level);
    let config = match Configuration::try_from(arguments) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {}", ErrorChain(&error));
            return ExitCode::from(2);
        }
    };
    if check {
        for forward in &config.forwards {
            println!(
                "{}: {} -> {}",
                forward.name, forward.listen, forward.connect
            );
        }
        return ExitCode::SUCCESS;
    }
    let ours = Targets::new()
        .with_target("vsock_bridge", level)
        .with_target("cloister", level);
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(json.with_current_span(false).with_span_list(false))
        .with(ours)
        .init();
    match run::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(
                event = events::PROGRAM_FAILED,
                error = %ErrorChain(&error),
                "the bridge ends"
            );
            ExitCode::FAILURE
        }
    }
}
