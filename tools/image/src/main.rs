#![doc = include_str!("../README.md")]
// A command-line tool: standard output is where its answer goes.
#![allow(clippy::print_stdout, reason = "a command-line tool answers there")]

mod assemble;
mod binary;
mod image;
mod output;
mod ramdisk;
mod release;
mod signing;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use cloister_contract::Architecture;

use crate::release::{Application, Ingredients, Release};
use crate::signing::SigningKey;

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Release(arguments) => {
            let ReleaseArguments { inputs, output, .. } = &arguments;
            Release::make(&arguments.ingredients(), inputs, output)
        }
        Command::Assemble {
            release,
            settings,
            output,
            signature,
        } => assemble::both(
            &Release::open(&release)?,
            &settings,
            &output,
            signature.key()?.as_ref(),
        ),
        Command::One {
            release,
            application,
            settings,
            output,
        } => assemble::one(&Release::open(&release)?, &application, &settings, &output),
    }
}

/// Makes enclave images: the same inputs give the same bytes, wherever and whenever.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a release: kernel, init and applications, which the images of all deployments share.
    Release(ReleaseArguments),
    /// Make the images of one deployment, and `measurements.json`.
    Assemble {
        /// The directory that `release` made.
        #[arg(long)]
        release: PathBuf,
        /// The deployment's measured settings.
        #[arg(long)]
        settings: PathBuf,
        /// A directory; created if missing.
        #[arg(long)]
        output: PathBuf,
        #[command(flatten)]
        signature: Signature,
    },
    /// Make one image with unchecked settings; its measurements go to standard output.
    One {
        /// The directory that `release` made.
        #[arg(long)]
        release: PathBuf,
        /// The application's name in the release.
        #[arg(long)]
        application: String,
        /// A file that becomes `/settings.json`, unchecked.
        #[arg(long)]
        settings: PathBuf,
        /// The image's file.
        #[arg(long)]
        output: PathBuf,
    },
}

#[derive(Args)]
struct ReleaseArguments {
    #[arg(long)]
    architecture: Architecture,
    /// A bzImage (amd64) or Image (arm64).
    #[arg(long)]
    kernel: PathBuf,
    /// The configuration that the kernel was built with; it is part of the release, not of the images.
    #[arg(long)]
    kernel_config: PathBuf,
    /// A file with the kernel's command line.
    #[arg(long)]
    cmdline: PathBuf,
    /// The program that the kernel starts.
    #[arg(long)]
    init: PathBuf,
    /// The driver of the NSM, for kernels that do not have it built in.
    #[arg(long)]
    module: Option<PathBuf>,
    /// The program that forwards a volume's connections to the parent; the image then has the
    /// volume's directory.
    #[arg(long)]
    bridge: Option<PathBuf>,
    /// An application, as NAME=FILE.
    #[arg(long = "application", required = true)]
    applications: Vec<Application>,
    /// A JSON object with the versions of sources and compilers.
    #[arg(long)]
    inputs: PathBuf,
    /// A directory; created if missing.
    #[arg(long)]
    output: PathBuf,
}

impl ReleaseArguments {
    fn ingredients(&self) -> Ingredients<'_> {
        Ingredients {
            architecture: self.architecture,
            kernel: &self.kernel,
            kernel_config: &self.kernel_config,
            cmdline: &self.cmdline,
            init: &self.init,
            module: self.module.as_deref(),
            bridge: self.bridge.as_deref(),
            applications: &self.applications,
        }
    }
}

#[derive(Args)]
struct Signature {
    /// The certificate of the key that signs both images, PEM.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// The signing key, P-384, PEM.
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
}

impl Signature {
    fn key(&self) -> Result<Option<SigningKey>> {
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            return Ok(None);
        };
        SigningKey::read(certificate, key).map(Some)
    }
}
