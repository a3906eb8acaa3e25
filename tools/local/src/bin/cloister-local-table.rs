//! `cloister-local-table`: reads its command line, serves the DynamoDB endpoint, and stops on
//! SIGTERM or SIGINT.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use cloister_local::table::{self, Options};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// TLS, signatures, rights and table ARNs in front of dynalite.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Loopback address to listen on; port 0 takes any.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// File to write the bound address to, once listening.
    #[arg(long)]
    address_file: PathBuf,
    /// Server certificate, PEM.
    #[arg(long)]
    tls_cert: PathBuf,
    /// Its private key, PEM.
    #[arg(long)]
    tls_key: PathBuf,
    /// The unix socket that dynalite listens on.
    #[arg(long)]
    dynalite: PathBuf,
    /// Who may call, JSON.
    #[arg(long)]
    principals: PathBuf,
    /// The region that requests are signed for.
    #[arg(long)]
    region: String,
    /// The ARN of the table.
    #[arg(long)]
    table_arn: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // The signature library's own log shows what was signed, session tokens included.
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|filter| filter.parse::<Targets>().ok());
    let filter = filter
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
        .with_target("scratchstack_aws_signature", LevelFilter::OFF);
    let text = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(text)
        .with(filter)
        .init();
    // Fails only when a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();

    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let options = Options {
        listen: arguments.listen,
        address_file: arguments.address_file,
        tls_cert: arguments.tls_cert,
        tls_key: arguments.tls_key,
        dynalite: arguments.dynalite,
        principals: arguments.principals,
        region: arguments.region,
        table_arn: arguments.table_arn,
    };
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    table::serve(options, stop).await
}
