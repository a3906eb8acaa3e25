//! The Postman collection with newman: against the endpoint that the environment names, or a stack
//! of its own.

use std::path::PathBuf;
use std::process::Command;

use crate::build::{programs, target_directory, workspace_root};
use crate::npm;
use crate::run::succeed;
use crate::stack::LocalStack;

/// How `cargo xtask newman` is called.
pub(crate) const USAGE: &str = "\
usage: cargo xtask newman RUNNERS ROUNDS [--environment FILE] [--report DIRECTORY]
       RUNNERS newman runners side by side, each ROUNDS rounds of one UserOp and one transaction signature, every answer checked

What is called: CLOISTER_ENDPOINT with AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN; or the environment
FILE, exported from Postman; without both a stack that is started for it on this machine. CLOISTER_KEY_ID and CLOISTER_SECRET name
a key to use; otherwise every runner makes one. The report is target/newman/index.html unless DIRECTORY is given.";

/// A load.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let is_count = |text: &&&str| text.parse::<u32>().is_ok_and(|count| count > 0);
    if arguments.iter().take(2).filter(is_count).count() != 2 {
        return Err(USAGE.to_owned());
    }
    programs()?;
    let mut newman = newman("load")?;
    newman.args(arguments);
    let given = |flag: &str| {
        arguments
            .iter()
            .any(|argument| *argument == flag || argument.starts_with(&format!("{flag}=")))
    };
    if !given("--report") {
        newman.arg("--report").arg(reports());
    }
    if given("--environment")
        || std::env::var_os("CLOISTER_ENDPOINT").is_some_and(|endpoint| !endpoint.is_empty())
    {
        return checked(&mut newman);
    }
    let stack = LocalStack::start()?;
    checked(stack.with(&mut newman))
}

/// What `cargo xtask test` does with the collection: its own tests, its integration folder and a
/// small load.
pub(crate) fn test() -> Result<(), String> {
    let directory = directory();
    npm::install(&directory)?;
    succeed(
        npm::npm()
            .arg("--prefix")
            .arg(&directory)
            .args(["test", "--silent"]),
    )?;
    let stack = LocalStack::start()?;
    integration(&stack)?;
    checked(
        stack.with(
            newman("load")?
                .args(["2", "10"])
                .arg("--report")
                .arg(reports()),
        ),
    )
}

/// Every request form and every refusal.
pub(crate) fn integration(stack: &LocalStack) -> Result<(), String> {
    checked(stack.with(newman("integration")?.arg("--report").arg(reports())))
}

/// Runs where the command was typed, so that paths mean what they look like.
fn newman(folder: &str) -> Result<Command, String> {
    let directory = directory();
    npm::install(&directory)?;
    let mut newman = npm::node();
    newman.arg(directory.join("run.mjs")).arg(folder);
    Ok(newman)
}

fn checked(newman: &mut Command) -> Result<(), String> {
    succeed(newman).map_err(|_| "newman failed; what it said stands above".to_owned())
}

fn directory() -> PathBuf {
    workspace_root().join("postman")
}

fn reports() -> PathBuf {
    target_directory().join("newman")
}
