#![doc = include_str!("../README.md")]
// Used by a command-line tool: standard output is for its results.
#![allow(clippy::print_stdout)]

mod architecture;
mod containers;
mod emulator;
mod image;
mod image_tool;
mod kernel;
mod lambda;
mod measured;
mod nitro_cli;
mod paths;
mod push;
mod release;
mod reproducible;
mod volume;

use anyhow::Result;
use clap::{Args, Subcommand};
use cloister_contract::Architecture;

pub use containers::build_twice as build_containers_twice;
pub use emulator::build as build_emulator;
pub use image::{build_for_arm64, build_for_emulator};
pub use image_tool::{MANIFEST as IMAGE_TOOL_MANIFEST, cargo as image_tool_cargo};
pub use kernel::build_twice as build_kernel_twice;
pub use lambda::package as package_lambda;
pub use nitro_cli::check as check_nitro_cli;
pub use push::{PodImages, Repository, check as check_push, push};
pub use reproducible::check as check_reproducible;
pub use volume::build_for_test as build_volume_for_test;

/// A part of a release.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a release (kernel, init, applications) and, with settings, a deployment's images
    Image(image::Arguments),
    /// Build the enclaves' kernel, and print its path
    Kernel(ArchitectureArgument),
    /// Build what the pods' container images consist of, from a deployment's enclave images
    Containers(containers::Arguments),
    /// Push the pods' container images to a registry, and print their names for CDK
    Push(push::Arguments),
    /// Build the front door as a Lambda function's zip, and print its path
    Lambda(ArchitectureArgument),
    /// Build QEMU, which boots enclave images without Nitro; tests and demo do so by themselves
    Emulator,
}

/// The processors to build for.
#[derive(Debug, Args)]
pub struct ArchitectureArgument {
    /// amd64 or arm64
    #[arg(long, default_value_t)]
    architecture: Architecture,
}

/// Runs a command.
///
/// # Errors
/// If something cannot be built.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Image(arguments) => image::run(&arguments),
        Command::Kernel(ArchitectureArgument { architecture }) => {
            let kernels = kernel::Kernels::get(architecture)?;
            println!("{}", kernels.release.image.display());
            Ok(())
        }
        Command::Containers(arguments) => containers::run(&arguments),
        Command::Push(arguments) => push::run(&arguments),
        Command::Lambda(ArchitectureArgument { architecture }) => {
            println!("{}", lambda::package(architecture)?.display());
            Ok(())
        }
        Command::Emulator => emulator::run(),
    }
}
