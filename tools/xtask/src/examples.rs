//! The examples for callers, run as their README says, against one local stack.

use std::process::Command;

use anyhow::Result;
use cloister_toolchain::cargo::{cargo, target_directory, workspace_root};
use cloister_toolchain::command::succeed;
use cloister_toolchain::node::Node;
use cloister_toolchain::python;
use fs_err as fs;

use crate::stack::LocalStack;

/// Every example sends a transaction that the stack's chain mines.
pub(crate) fn test() -> Result<()> {
    let examples = workspace_root().join("examples");
    let typescript = examples.join("typescript");
    let python = examples.join("python");
    // All of the workspace, for the features that everything else was built with.
    succeed(cargo().args(["build", "--workspace", "--examples", "--locked"]))?;
    let node = Node::find()?;
    node.install(&typescript)?;
    let npm = |arguments: &[&str]| {
        let mut npm = node.npm()?;
        npm.current_dir(&typescript).args(arguments);
        anyhow::Ok(npm)
    };
    succeed(&mut npm(&["run", "--silent", "check"])?)?;
    succeed(&mut npm(&["test", "--silent"])?)?;
    let requirements = fs::read_to_string(python.join("requirements.txt"))?;
    let with_packages = || python::with_packages("python-example", &requirements, &[]);
    let mut tests = with_packages()?;
    tests.current_dir(&python).args(["-B", "-m", "unittest"]);
    succeed(&mut tests)?;
    let mut script = with_packages()?;
    script.arg(python.join("send_transaction.py"));

    let stack = LocalStack::start()?;
    let rust = target_directory().join("debug/examples/send_transaction");
    succeed(stack.with(&mut Command::new(rust)))?;
    succeed(stack.with(&mut npm(&["start", "--silent"])?))?;
    succeed(stack.with(&mut script))
}
