#![doc = include_str!("../README.md")]
// A command-line tool: standard output is for its results.
#![allow(clippy::print_stdout)]

mod background;
mod deployment;
mod examples;
mod kubernetes;
mod lambda;
mod local;
mod newman;
mod openapi;
mod stack;
mod test;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, tests and runs Cloister.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every test, or one step of them
    Test(test::Arguments),
    /// Start the whole system on this machine: `cargo local --help`
    #[command(disable_help_flag = true)]
    Local {
        /// Arguments of `cloister-local`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Make load with newman
    Newman(newman::Arguments),
    #[command(flatten)]
    Release(cloister_release::Command),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Test(arguments) => test::run(&arguments),
        Command::Local { arguments } => local::run(&arguments),
        Command::Newman(arguments) => newman::run(&arguments),
        Command::Release(command) => cloister_release::run(command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn local_passes_every_argument_on() {
        let parsed = Arguments::parse_from(["xtask", "local", "up", "--data-dir", "d", "--help"]);
        let Command::Local { arguments } = parsed.command else {
            panic!("not local");
        };
        assert_eq!(arguments, ["up", "--data-dir", "d", "--help"]);
    }
}
