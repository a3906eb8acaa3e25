#![doc = include_str!("../README.md")]
// A command-line tool: standard output is for its results.
#![allow(clippy::print_stdout)]

pub mod check;
pub mod commands;
pub mod deployment;
pub mod down;
pub mod error;
mod prerequisites;
pub mod stack;
mod stamp;
pub mod up;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::commands::Commands;
use crate::deployment::Deployment;

/// Deploys Cloister to AWS and removes it again.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo aws", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Build what is missing, deploy, and wait until the deployment answers
    Up(up::Arguments),
    /// Run the rows of docs/hardware-checked.md against the deployment
    Check(check::Arguments),
    /// Remove the deployment, and on request its keys
    Down(down::Arguments),
}

/// Variables of the operator's environment.
pub type Environment = BTreeMap<String, String>;

/// Runs `cargo aws`.
///
/// # Errors
/// If something fails: an [`error::Error`], if its cause is known.
pub fn run(arguments: &Arguments, environment: &Environment) -> Result<()> {
    let (target, dry) = match &arguments.command {
        Subcommands::Up(up) => (&up.target, up.dry_run),
        Subcommands::Check(check) => (&check.target, check.dry_run),
        Subcommands::Down(down) => (&down.target, down.dry_run),
    };
    let deployment = Deployment::new(target, environment)?;
    let variables = deployment.variables(environment);
    let mut commands = match dry {
        true => Commands::dry(variables),
        false => Commands::new(variables),
    };
    match &arguments.command {
        Subcommands::Up(_) => up::run(&deployment, &mut commands)?,
        Subcommands::Check(check) => return check::run(check, &deployment, commands),
        Subcommands::Down(down) => down::run(down, &deployment, &commands)?,
    }
    print!("{}", commands.listing());
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
