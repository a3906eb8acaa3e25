//! `cloister-local`: the whole wallet on one machine.

// A command-line tool: standard output is where its answer goes.
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
    /// Start the stack, say how to call it, and keep it running until Ctrl-C.
    Up {
        /// Where everything that survives a restart lies.
        #[arg(long, default_value = ".cloister/local")]
        data_dir: PathBuf,
        /// What the enclaves are.
        #[arg(long, value_enum, default_value_t)]
        enclaves: Enclaves,
        /// The front door to run, such as the `bootstrap` of a Lambda package; without this, the
        /// one built with this program.
        #[arg(long, value_parser = existing_file)]
        front_door: Option<PathBuf>,
    },
    /// Start the stack, use it as a customer would, and tell what was seen.
    Demo {
        /// Where everything of the stack lies; without this, in a directory that is removed after a
        /// success.
        #[arg(long)]
        data_dir: Option<PathBuf>,
        /// What the enclaves are.
        #[arg(long, value_enum, default_value_t)]
        enclaves: Enclaves,
        /// Tell it as JSON lines.
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
        Err("there is no such file".to_owned())
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
    // Only `up` is meant to be ended from outside.
    let endless = matches!(arguments.command, Command::Up { .. });
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = run(arguments.command) => outcome,
            signal = stop_signal() => signal.and_then(|()| if endless { Ok(()) } else { Err(anyhow!("interrupted")) }),
        }
    });
    // An installation that was interrupted must not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome.map_or_else(|error| failure(&error), |()| ExitCode::SUCCESS)
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up {
            data_dir,
            enclaves,
            front_door,
        } => {
            up(Options {
                front_door,
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

/// Ends with an error when a part ends by itself; otherwise only with the process, which a signal
/// ends.
async fn up(options: Options) -> anyhow::Result<()> {
    let mut stack = Stack::start(options, &Progress::new()).await?;
    println!("{}", endpoint::instructions(&stack));
    let _file = EndpointFile::write(&stack)?;
    loop {
        tokio::time::sleep(CHECK_EVERY).await;
        stack.check()?;
    }
}

async fn demo(data_dir: Option<PathBuf>, enclaves: Enclaves, format: Format) -> anyhow::Result<()> {
    let mut report = Report::new(format);
    let (path, temporary) = match data_dir {
        Some(path) => (path, None),
        None => {
            let directory = tempfile::Builder::new().prefix("cloister-demo-").tempdir();
            let directory = directory.context("cannot make a temporary directory")?;
            (directory.path().to_owned(), Some(directory))
        }
    };
    let outcome = async {
        let stack = Stack::start(options(&path, enclaves), &Progress::new()).await?;
        report.stack_is_up(&stack);
        demo::run(&stack, &mut report).await
    }
    .await;
    // The directory of a demonstration that failed says why.
    if let (Err(_), Some(temporary)) = (&outcome, temporary) {
        eprintln!(
            "everything of this run is kept in {}",
            temporary.keep().display()
        );
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
    }
}

/// Resolves when somebody wants this process to end.
async fn stop_signal() -> anyhow::Result<()> {
    let watch = |kind| signal(kind).context("cannot watch for signals");
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

const CHECK_EVERY: Duration = Duration::from_millis(500);
