//! The Postman collection with newman: against the endpoint that the environment names, or a local
//! stack.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;
use cloister_toolchain::cargo::{self, target_directory, workspace_root};
use cloister_toolchain::command::succeed;
use cloister_toolchain::node::Node;

use crate::stack::LocalStack;

/// The API is CLOISTER_ENDPOINT with AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
/// AWS_SESSION_TOKEN, or that of the environment FILE; without both, a stack that is started on
/// this machine. CLOISTER_KEY_ID and CLOISTER_SECRET name a key to use; otherwise every runner
/// makes one.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Concurrent newman runners
    runners: NonZeroU32,
    /// Rounds of each: one UserOp and one transaction signature, every answer checked
    rounds: NonZeroU32,
    /// An environment exported from Postman
    #[arg(long, value_name = "FILE")]
    environment: Option<PathBuf>,
    /// The report's directory [default: target/newman]
    #[arg(long, value_name = "DIRECTORY")]
    report: Option<PathBuf>,
}

/// Runs `cargo xtask newman`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    cargo::build_programs()?;
    let mut newman = newman("load")?;
    newman.args([arguments.runners, arguments.rounds].map(|count| count.to_string()));
    let report = arguments.report.clone().unwrap_or_else(reports);
    newman.arg("--report").arg(report);
    if let Some(environment) = &arguments.environment {
        return checked(newman.arg("--environment").arg(environment));
    }
    if std::env::var_os("CLOISTER_ENDPOINT").is_some_and(|endpoint| !endpoint.is_empty()) {
        return checked(&mut newman);
    }
    let stack = LocalStack::start()?;
    checked(stack.with(&mut newman))
}

/// The collection's own tests, its integration folder and a small load.
pub(crate) fn test() -> Result<()> {
    let node = Node::find()?;
    node.install(&directory())?;
    let mut own = node.npm()?;
    succeed(own.current_dir(directory()).args(["test", "--silent"]))?;
    let stack = LocalStack::start()?;
    integration(&stack)?;
    let mut load = newman("load")?;
    load.args(["2", "10"]).arg("--report").arg(reports());
    checked(stack.with(&mut load))
}

/// Every request form and every refusal.
pub(crate) fn integration(stack: &LocalStack) -> Result<()> {
    checked(stack.with(newman("integration")?.arg("--report").arg(reports())))
}

/// Runs where the command was typed, so that relative paths are relative to there.
fn newman(folder: &str) -> Result<Command> {
    let node = Node::find()?;
    node.install(&directory())?;
    let mut newman = node.node()?;
    newman.arg(directory().join("run.mjs")).arg(folder);
    Ok(newman)
}

fn checked(newman: &mut Command) -> Result<()> {
    succeed(newman).context("newman failed; its output is above")
}

fn directory() -> PathBuf {
    workspace_root().join("postman")
}

fn reports() -> PathBuf {
    target_directory().join("newman")
}
