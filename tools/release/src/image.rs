//! `cargo xtask image`: a release, and with settings the images of a deployment.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use cloister_contract::Architecture;
use cloister_toolchain::cargo::workspace_root;
use cloister_toolchain::debian;

use crate::image_tool::assemble;
use crate::kernel::{Kernel, Kernels};
use crate::measured::{self, BuildEnvironment};
use crate::paths::{
    EXAMPLE_SETTINGS, absolute, command_line, default_output, directory, release_directory,
};
use crate::release::Inputs;
use crate::{emulator, kernel, reproducible, volume};

/// Options of `cargo xtask image`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// amd64 or arm64
    #[arg(long, default_value_t)]
    pub(crate) architecture: Architecture,
    /// Kind of image
    #[arg(
        long,
        value_enum,
        default_value_t,
        requires_if("volume", "application")
    )]
    profile: Profile,
    /// A static program with a directory that the parent keeps, for `--profile volume`
    #[arg(long, value_name = "NAME=FILE", value_parser = application)]
    #[arg(conflicts_with_all = ["kernel", "module", "certificate"])]
    application: Option<(String, PathBuf)>,
    /// A kernel as AWS ships it, with its configuration in FILE.config; without it, one is built
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    kernel: Option<PathBuf>,
    /// Another command line than the profile's
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    cmdline: Option<PathBuf>,
    /// A kernel module for the NSM, for a kernel without its driver
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    module: Option<PathBuf>,
    /// The measured settings: also make a deployment's images
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    settings: Option<PathBuf>,
    /// Make the images from this release instead of building one
    #[arg(long, value_name = "RELEASE", value_parser = absolute, requires = "settings")]
    #[arg(conflicts_with_all = ["application", "architecture", "profile", "kernel", "cmdline", "module"])]
    from: Option<PathBuf>,
    /// The images' directory [default: target/images/deployment]
    #[arg(long, value_name = "DIRECTORY", value_parser = absolute, requires = "settings")]
    output: Option<PathBuf>,
    /// Sign the images with this certificate's key (PCR8)
    #[arg(long, value_name = "FILE", value_parser = absolute, requires_all = ["key", "settings"])]
    certificate: Option<PathBuf>,
    /// The certificate's private key
    #[arg(long, value_name = "FILE", value_parser = absolute, requires = "certificate")]
    key: Option<PathBuf>,
    /// Build everything twice, in different places, and compare
    #[arg(long)]
    check_reproducible: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// Silent
    #[default]
    Production,
    /// The kernel and init write to the console
    Debug,
    /// An application with a directory that the parent keeps
    Volume,
}

/// Runs `cargo xtask image`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.check_reproducible {
        return reproducible::check(arguments.architecture);
    }
    if let Some((name, program)) = &arguments.application {
        ensure!(
            arguments.profile == Profile::Volume,
            "--application needs --profile volume"
        );
        let release = volume::release(
            arguments.architecture,
            arguments.cmdline.clone(),
            (name.clone(), program.clone()),
        )?;
        let Some(settings) = &arguments.settings else {
            println!("{}", release.display());
            return Ok(());
        };
        let output = arguments.output.clone();
        let output = output.unwrap_or_else(|| directory().join("volume"));
        return volume::image(&release, name, settings, &output);
    }
    let release = match &arguments.from {
        Some(release) => release.clone(),
        None => release(arguments)?,
    };
    let Some(settings) = &arguments.settings else {
        println!("{}", release.display());
        return Ok(());
    };
    let output = arguments.output.clone();
    let output = output.unwrap_or_else(default_output);
    let signature = arguments
        .certificate
        .as_deref()
        .zip(arguments.key.as_deref());
    assemble(&release, settings, &output, signature)?;
    println!("{}", output.display());
    Ok(())
}

/// Builds what the emulator runs: the release, and the guest test's.
///
/// # Errors
/// If something cannot be built.
pub fn build_for_emulator() -> Result<()> {
    default_release(Architecture::Amd64).map(drop)
}

/// Builds a release and a deployment's images for arm64, and starts each program as far as it runs
/// without an enclave.
///
/// # Errors
/// If something cannot be built or does not start.
pub fn build_for_arm64() -> Result<()> {
    let architecture = Architecture::Arm64;
    assemble_example(architecture, &directory().join("deployment-arm64"))?;
    debian::require(&["qemu-user-static"])?;
    let environment = BuildEnvironment::here()?;
    for program in measured::APPLICATIONS.iter().chain([&measured::INIT]) {
        let output = Command::new("qemu-aarch64-static")
            .arg(environment.build(program, architecture)?)
            .output()
            .context("failed to run qemu-aarch64-static")?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        // There is no NSM here; the program reports that after Rust's and its own start.
        ensure!(
            output.status.code() == Some(1) && !text.is_empty(),
            "{} for {architecture} did not start: {}\n{text}",
            program.name,
            output.status
        );
        let line = text.lines().next().unwrap_or_default();
        println!(
            "{} for {architecture} starts and prints: {line}",
            program.name
        );
    }
    Ok(())
}

/// Makes the example deployment's images from the release as it is built here.
pub(crate) fn assemble_example(architecture: Architecture, output: &Path) -> Result<()> {
    let settings = workspace_root().join(EXAMPLE_SETTINGS);
    assemble(&default_release(architecture)?, &settings, output, None)
}

fn default_release(architecture: Architecture) -> Result<PathBuf> {
    build(architecture, None, command_line("production"), None)
}

/// Builds a release as the arguments request it.
fn release(arguments: &Arguments) -> Result<PathBuf> {
    let profile = match arguments.profile {
        Profile::Debug => "debug",
        Profile::Production | Profile::Volume => "production",
    };
    let cmdline = arguments.cmdline.clone();
    build(
        arguments.architecture,
        arguments.kernel.clone(),
        cmdline.unwrap_or_else(|| command_line(profile)),
        arguments.module.clone(),
    )
}

/// Builds a release. If its kernel is built too, the guest test's release is built as well.
fn build(
    architecture: Architecture,
    given_kernel: Option<PathBuf>,
    cmdline: PathBuf,
    module: Option<PathBuf>,
) -> Result<PathBuf> {
    let environment = BuildEnvironment::here()?;
    let output = release_directory("release", architecture);
    let mut inputs = Inputs::build(&environment, architecture, measured::APPLICATIONS, cmdline)?;
    inputs.module = module;
    if let Some(image) = given_kernel {
        let config = image.with_added_extension("config");
        inputs.record("linux", "given");
        inputs.make_release(&Kernel { image, config }, &output)?;
    } else {
        let kernels = Kernels::get(architecture)?;
        inputs.record_all(kernel::inputs(architecture)?);
        inputs.make_release(&kernels.release, &output)?;
        if architecture == Architecture::Amd64 {
            let program = environment.build(&measured::GUEST_TEST, architecture)?;
            inputs.applications = vec![(measured::GUEST_TEST.name.to_owned(), program)];
            let output = release_directory("guest-release", architecture);
            inputs.make_release(&kernels.guest_test, &output)?;
        }
    }
    emulator::write_emulation()?;
    Ok(output)
}

fn application(text: &str) -> Result<(String, PathBuf)> {
    let (name, file) = text.split_once('=').context("NAME=FILE is expected")?;
    Ok((name.to_owned(), absolute(file)?))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use clap::error::ErrorKind;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Image {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(arguments: &str) -> Result<Image, clap::Error> {
        Image::try_parse_from(["image"].into_iter().chain(arguments.split_whitespace()))
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        use ErrorKind::{ArgumentConflict, InvalidValue, MissingRequiredArgument, ValueValidation};
        for (arguments, expected) in [
            ("--from r", MissingRequiredArgument),
            ("--output o", MissingRequiredArgument),
            ("--settings s --key k", MissingRequiredArgument),
            ("--settings s --certificate c", MissingRequiredArgument),
            ("--certificate c --key k", MissingRequiredArgument),
            ("--settings s --from r --kernel k", ArgumentConflict),
            (
                "--settings s --from r --architecture amd64",
                ArgumentConflict,
            ),
            ("--settings s --from r --profile debug", ArgumentConflict),
            ("--profile fast", InvalidValue),
            ("--profile volume", MissingRequiredArgument),
            ("--profile volume --application a", ValueValidation),
            (
                "--profile volume --application a=b --kernel k",
                ArgumentConflict,
            ),
            ("--architecture riscv64", ValueValidation),
            ("--settings s --settings t", ArgumentConflict),
        ] {
            let error = parse(arguments).expect_err(arguments);
            assert_eq!(error.kind(), expected, "{arguments}: {error}");
        }
        for arguments in [
            "",
            "--profile volume --application a=b",
            "--settings s --from r --output o",
            "--settings s --certificate c --key k",
        ] {
            parse(arguments).unwrap();
        }
        let only_volume = parse("--application a=b").unwrap();
        let error = run(&only_volume.arguments).unwrap_err();
        assert_eq!(error.to_string(), "--application needs --profile volume");
    }
}
