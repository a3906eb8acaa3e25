//! `cloister-local-kms`: reads its command line, listens, and stops on SIGTERM or SIGINT.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::SystemTime};

use clap::Parser;
use cloister_local_kms::{LocalKms, Options};
use cloister_stand_in::{StandInError, https, process};

/// A KMS for a laptop: verifies signatures and attestation documents, and enforces key policies.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    https: https::Options,
    /// Directory of the keys.
    #[arg(long)]
    data: PathBuf,
    /// Root certificate that attestation documents must chain to, PEM or DER.
    #[arg(long)]
    nsm_root: PathBuf,
    /// Also accept documents of QEMU's emulated NSM. They carry no signature: anybody can write
    /// one.
    #[arg(long)]
    accept_unsigned_documents_of_the_emulator: bool,
    /// File of principals that may call, JSON.
    #[arg(long)]
    principals: PathBuf,
    /// Partition of the keys' ARNs.
    #[arg(long, default_value = "aws")]
    partition: String,
    /// Region of the keys' ARNs and of signatures.
    #[arg(long)]
    region: String,
    /// Account that owns the keys, twelve digits.
    #[arg(long)]
    account: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    process::start_logging();
    process::run(serve(Arguments::parse())).await
}

async fn serve(arguments: Arguments) -> Result<(), StandInError> {
    // Before the address file is written: its reader may send a signal at once.
    let stop = process::stop_signal()?;
    let kms = LocalKms::start(Options {
        https: arguments.https,
        data: arguments.data,
        nsm_root: arguments.nsm_root,
        accept_unsigned_documents_of_the_emulator: arguments
            .accept_unsigned_documents_of_the_emulator,
        principals: arguments.principals,
        partition: arguments.partition,
        region: arguments.region,
        account: arguments.account,
        clock: Arc::new(SystemTime::now),
    })?;
    tracing::info!(address = %kms.address(), "listening");
    stop.await;
    kms.stop().await
}
