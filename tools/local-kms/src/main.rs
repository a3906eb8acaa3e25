//! `cloister-local-kms`: reads its command line, listens, and stops on SIGTERM or SIGINT.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::SystemTime};

use anyhow::Context;
use clap::Parser;
use cloister_local_kms::{LocalKms, Options};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// A KMS for a laptop: verifies signatures and attestation documents, and enforces key policies.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Loopback address to listen on; port 0 takes any.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// File to write the bound address to, once listening.
    #[arg(long)]
    address_file: Option<PathBuf>,
    /// Directory of the keys.
    #[arg(long)]
    data: PathBuf,
    /// Server certificate chain, PEM.
    #[arg(long)]
    tls_cert: PathBuf,
    /// Its private key, PEM.
    #[arg(long)]
    tls_key: PathBuf,
    /// Root certificate of the attestation documents to believe, PEM or DER.
    #[arg(long)]
    nsm_root: PathBuf,
    /// Believe documents of QEMU's emulated NSM too. They carry no signature: anybody can write
    /// one.
    #[arg(long)]
    accept_unsigned_documents_of_the_emulator: bool,
    /// Who may call, JSON.
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
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|filter| filter.parse::<Targets>().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let text = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(text)
        .with(filter)
        .init();

    let mut terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    let kms = LocalKms::start(Options {
        listen: arguments.listen,
        address_file: arguments.address_file,
        data: arguments.data,
        tls_cert: arguments.tls_cert,
        tls_key: arguments.tls_key,
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

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    kms.stop().await.context("stopping")
}
