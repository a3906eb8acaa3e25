//! `cloister-local`: the whole wallet on one machine.

// A command-line tool: its result goes to standard output.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Parser, Subcommand, ValueEnum};
use cloister_local::demo::{self, Format, Report};
use cloister_local::endpoint::{self, EndpointFile};
use cloister_local::progress::Progress;
use cloister_local::stack::{self, Emulation, Options, Stack};
use tokio::signal::unix::{SignalKind, signal};

/// The whole wallet on one machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the stack, print how to call it, and keep it running until Ctrl-C.
    Up {
        /// Directory of everything that survives a restart.
        #[arg(long, default_value = ".cloister/local")]
        data_dir: PathBuf,
        /// Kind of the enclaves.
        #[arg(long, value_enum, default_value_t)]
        enclaves: Enclaves,
        /// The front door to run, such as the `bootstrap` of a Lambda package; without this, the
        /// one built with this program.
        #[arg(long, value_parser = existing_file)]
        front_door: Option<PathBuf>,
        /// First of the ports to listen on: the endpoint's. The next block of ten is used if one of
        /// them is taken; 0 takes any free ports.
        #[arg(long, default_value_t = DEFAULT_PORT)]
        port: u16,
    },
    /// Start the stack, use it as a customer would, and report every check.
    Demo {
        /// Directory of the stack; without this, a temporary one that is removed after a success.
        #[arg(long)]
        data_dir: Option<PathBuf>,
        /// Kind of the enclaves.
        #[arg(long, value_enum, default_value_t)]
        enclaves: Enclaves,
        /// Report as JSON lines.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Enclaves {
    /// Processes of this machine.
    #[default]
    Processes,
    /// Images in QEMU, which takes some seconds more.
    Emulated,
}

fn existing_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_file() {
        Ok(path)
    } else {
        Err("no such file".to_owned())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failure(&error.into()),
    };
    // Only `up` runs until it is interrupted.
    let data = match &arguments.command {
        Command::Up { data_dir, .. } => Some(data_dir.clone()),
        _ => None,
    };
    let interrupted = async {
        stop_signal().await?;
        if data.is_some() {
            eprintln!("stopping");
        }
        anyhow::Ok(())
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = run(arguments.command) => outcome,
            // By now the stack is dropped, and every part of it has ended.
            signal = interrupted => signal.and_then(|()| {
                let data = data.as_ref().ok_or_else(|| anyhow!("interrupted"))?;
                let data = std::path::absolute(data)?;
                eprintln!("stopped; data kept in {}", data.display());
                Ok(())
            }),
        }
    });
    // An interrupted installation must not delay the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome.map_or_else(|error| failure(&error), |()| ExitCode::SUCCESS)
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up {
            data_dir,
            enclaves,
            front_door,
            port,
        } => {
            up(Options {
                front_door,
                port: Some(port),
                ..options(&data_dir, enclaves)
            })
            .await
        }
        Command::Demo {
            data_dir,
            enclaves,
            json,
        } => {
            demo(
                data_dir,
                enclaves,
                if json { Format::Json } else { Format::Text },
            )
            .await
        }
    }
}

/// Runs the stack until a part cannot be kept running.
async fn up(options: Options) -> anyhow::Result<()> {
    let port = options.port.unwrap_or_default();
    let mut stack = Stack::start(options, &Progress::new()).await?;
    println!("{}", endpoint::instructions(&stack));
    let _file = EndpointFile::write(&stack)?;
    if port != 0 && !stack.endpoint().ends_with(&format!(":{port}")) {
        eprintln!("ports from {port} on are taken: using the next free ones");
    }
    match stack.supervise(|line| eprintln!("{line}")).await? {}
}

async fn demo(data_dir: Option<PathBuf>, enclaves: Enclaves, format: Format) -> anyhow::Result<()> {
    let mut report = Report::new(format);
    let (path, temporary) = match data_dir {
        Some(path) => (path, None),
        None => {
            let directory = tempfile::Builder::new().prefix("cloister-demo-").tempdir();
            let directory = directory.context("failed to make a temporary directory")?;
            (directory.path().to_owned(), Some(directory))
        }
    };
    let outcome = async {
        let stack = Stack::start(options(&path, enclaves), &Progress::new()).await?;
        report.stack_is_up(&stack);
        demo::run(&stack, &mut report).await
    }
    .await;
    // The logs of a failed demonstration are needed.
    if let (Err(_), Some(temporary)) = (&outcome, temporary) {
        eprintln!("logs and data are kept in {}", temporary.keep().display());
    }
    outcome
}

fn options(data_dir: &Path, enclaves: Enclaves) -> Options {
    let enclaves = match enclaves {
        Enclaves::Processes => stack::Enclaves::Processes,
        Enclaves::Emulated => stack::Enclaves::Emulated(Emulation::default()),
    };
    let log = std::env::var("RUST_LOG").ok();
    Options {
        data_dir: data_dir.to_owned(),
        chain: true,
        log,
        enclaves,
        front_door: None,
        port: None,
        credentials_lifetime: None,
    }
}

/// Resolves with SIGINT, SIGTERM or SIGHUP.
async fn stop_signal() -> anyhow::Result<()> {
    let watch = |kind| signal(kind).context("failed to watch for signals");
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut terminate = watch(SignalKind::terminate())?;
    let mut hangup = watch(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("{error:#}");
    ExitCode::FAILURE
}

const DEFAULT_PORT: u16 = 8750;
