//! `cloister-local-gateway`: API Gateway and Lambda on loopback, in a process of their own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use cloister_local::gateway::{Function, Gateway, Limits, Options};
use cloister_stand_in::{StandInError, https, process};

/// API Gateway and Lambda on loopback.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on; port 0 takes any.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// File to write `{"http":"ADDRESS:PORT"}` to, once listening.
    #[arg(long)]
    address_file: Option<PathBuf>,
    /// File of principals that may call, JSON.
    #[arg(long)]
    callers: PathBuf,
    /// The AWS region that signatures must be scoped to.
    #[arg(long)]
    region: String,
    /// Account of the function.
    #[arg(long, default_value = "000000000000")]
    account: String,
    /// The function's executable; its file name is the function's name.
    #[arg(long, value_parser = executable)]
    function: (String, PathBuf),
    /// Number of processes of the function.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// A variable of the function's environment, NAME=VALUE, or NAME with the value that it has here.
    #[arg(long = "function-env", value_parser = variable)]
    function_env: Vec<(String, String)>,
}

#[tokio::main]
async fn main() -> ExitCode {
    process::start_logging();
    process::run(serve(Arguments::parse())).await
}

async fn serve(arguments: Arguments) -> Result<(), StandInError> {
    // Before the address file is written: its reader may send a signal at once.
    let stop = process::stop_signal()?;
    let (name, program) = arguments.function;
    let gateway = Gateway::start(Options {
        listen: arguments.listen,
        callers: arguments.callers,
        region: arguments.region,
        account: arguments.account,
        function: Function {
            name,
            program,
            variables: arguments.function_env,
            workers: arguments.workers,
        },
        limits: Limits::default(),
    })
    .await?;
    if let Some(file) = &arguments.address_file {
        https::write_address(file, "http", gateway.address())?;
    }
    tracing::info!(address = %gateway.address(), "listening");
    stop.await;
    gateway.stop().await;
    Ok(())
}

fn executable(text: &str) -> Result<(String, PathBuf), String> {
    let path = PathBuf::from(text);
    let name = path.file_stem().and_then(|name| name.to_str());
    let name = name.ok_or("has no file name")?.to_owned();
    Ok((name, path))
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => (
            text,
            std::env::var(text).map_err(|_| format!("{text} is not set"))?,
        ),
    };
    Ok((name.to_owned(), value))
}
