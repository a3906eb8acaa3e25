//! `cloister-local-gateway`: API Gateway and Lambda on loopback, in a process of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;
use cloister_local::gateway::{Callers, Function, Gateway, Limits, Options};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// API Gateway and Lambda on loopback.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 for any.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to write `{"http":"ip:port"}` once bound.
    #[arg(long)]
    address_file: Option<PathBuf>,
    /// Who may call:
    /// `{"principals":[{"access_key_id","secret_access_key","session_token","principal_arn"}]}`.
    #[arg(long)]
    callers: PathBuf,
    /// The AWS region that signatures must be scoped to.
    #[arg(long)]
    region: String,
    /// The function's executable; its file name is the function's name.
    #[arg(long)]
    function: PathBuf,
    /// How many processes of the function run.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// A variable of the function's environment, NAME=VALUE.
    #[arg(long = "function-env", value_parser = variable)]
    function_env: Vec<(String, String)>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The signature library's own log shows what was signed, session tokens included.
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|filter| filter.parse::<Targets>().ok());
    let filter = filter
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
        .with_target("scratchstack_aws_signature", LevelFilter::OFF);
    let json = tracing_subscriber::fmt::layer().json().flatten_event(true);
    tracing_subscriber::registry()
        .with(json)
        .with(filter)
        .init();
    let arguments = Arguments::parse();
    let name = arguments
        .function
        .file_stem()
        .and_then(|name| name.to_str())
        .context("--function has no file name")?;
    let options = Options {
        listen: arguments.listen,
        callers: Callers::read(&arguments.callers)
            .with_context(|| arguments.callers.display().to_string())?,
        region: arguments.region,
        function: Function {
            name: name.to_owned(),
            program: arguments.function,
            variables: arguments.function_env,
            workers: arguments.workers,
        },
        limits: Limits::default(),
    };
    // Before the address is told: whoever reads it may also send a signal at once.
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let gateway = Gateway::start(options).await.context("cannot listen")?;
    if let Some(file) = &arguments.address_file {
        tell(file, gateway.address())
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    tracing::info!(address = %gateway.address(), "listening");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    gateway.stop().await;
    Ok(())
}

/// Written beside the file and renamed: a reader sees all of it or nothing.
fn tell(file: &Path, address: SocketAddr) -> std::io::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, serde_json::json!({ "http": address }).to_string())?;
    std::fs::rename(beside, file)
}
