#![doc = include_str!("../README.md")]
// A command-line tool: standard output is for its results.
#![allow(clippy::print_stdout)]

mod artefacts;
pub mod check;
pub mod commands;
pub mod deployment;
pub mod down;
pub mod error;
mod prerequisites;
mod release;
mod remains;
pub mod stack;
mod stamp;
pub mod up;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::commands::Commands;
use crate::deployment::{Deployment, Target};

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
    let deployment = Deployment::new(arguments.target(), environment)?;
    let commands = match arguments.is_dry() {
        true => Commands::dry(deployment.variables()),
        false => Commands::new(deployment.variables()),
    };
    arguments.execute(&deployment, commands)
}

impl Arguments {
    /// The options that choose the deployment.
    pub fn target(&self) -> &Target {
        match &self.command {
            Subcommands::Up(up) => &up.target,
            Subcommands::Check(check) => &check.target,
            Subcommands::Down(down) => &down.target,
        }
    }

    fn is_dry(&self) -> bool {
        match &self.command {
            Subcommands::Up(up) => up.dry_run,
            Subcommands::Check(check) => check.dry_run,
            Subcommands::Down(down) => down.dry_run,
        }
    }

    /// Runs the subcommand.
    ///
    /// # Errors
    /// If something fails: an [`error::Error`], if its cause is known.
    pub fn execute(&self, deployment: &Deployment, mut commands: Commands) -> Result<()> {
        match &self.command {
            Subcommands::Up(up) => up::run(up, deployment, &mut commands)?,
            Subcommands::Check(check) => return check::run(check, deployment, commands),
            Subcommands::Down(down) => down::run(down, deployment, &commands)?,
        }
        print!("{}", commands.listing());
        Ok(())
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
}
