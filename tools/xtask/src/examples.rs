//! The examples for callers, each as its README says, against one laptop stack.

use std::process::Command;

use crate::build::{cargo, target_directory, workspace_root};
use crate::run::succeed;
use crate::stack::LocalStack;
use crate::{npm, python};

/// Every example sends a transaction that the stack's chain mines.
pub(crate) fn test() -> Result<(), String> {
    let examples = workspace_root().join("examples");
    let typescript = examples.join("typescript");
    let python = examples.join("python");
    // All of the workspace, for the features that everything else was built with.
    succeed(cargo().args(["build", "--workspace", "--examples", "--locked"]))?;
    npm::install(&typescript)?;
    succeed(
        npm::npm()
            .current_dir(&typescript)
            .args(["run", "--silent", "check"]),
    )?;
    let packages = python::kept("python-example", &python.join("requirements.txt"))?;

    let stack = LocalStack::start()?;
    succeed(stack.with(&mut Command::new(
        target_directory().join("debug/examples/send_transaction"),
    )))?;
    succeed(
        stack.with(
            npm::npm()
                .current_dir(&typescript)
                .args(["start", "--silent"]),
        ),
    )?;
    let mut script = Command::new("python3");
    // Without the machine's own packages and what they do to others when Python starts.
    script
        .arg("-S")
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    succeed(stack.with(script.arg(python.join("send_transaction.py"))))
}
