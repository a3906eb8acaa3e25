//! `cloister-local-table`: reads its command line, serves the DynamoDB endpoint, and stops on
//! SIGTERM or SIGINT.

use std::process::ExitCode;

use clap::Parser;
use cloister_local::table::{self, Options};
use cloister_stand_in::{StandInError, process};

/// TLS, signatures, rights and table ARNs in front of dynalite.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    process::start_logging();
    process::run(serve(Arguments::parse().options)).await
}

async fn serve(options: Options) -> Result<(), StandInError> {
    // Before the address file is written: its reader may send a signal at once.
    let stop = process::stop_signal()?;
    let server = table::start(options)?;
    tracing::info!(address = %server.address(), "listening");
    stop.await;
    server.stop().await
}
