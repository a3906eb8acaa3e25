//! The published description of the API against the API.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use cloister_toolchain::cargo::{target_directory, workspace_root};
use cloister_toolchain::command::succeed;
use cloister_toolchain::python;
use fs_err as fs;

use crate::stack::LocalStack;

/// Every vector against the schemas, and schemathesis against a local stack.
pub(crate) fn test() -> Result<()> {
    succeed(python()?.arg(directory().join("vectors.py")))?;
    // The same requests every time: a failure is a change.
    generated(&["--max-examples", "10", "--seed", "1"])
}

/// The same with many more generated requests.
pub(crate) fn test_at_length() -> Result<()> {
    generated(&["--max-examples", "100"])
}

/// Requests that the description admits must succeed, all others must be refused, and every answer
/// must be as described.
fn generated(options: &[&str]) -> Result<()> {
    let stack = LocalStack::start()?;
    let work = target_directory().join("openapi");
    fs::create_dir_all(&work)?;
    let mut schemathesis = python()?;
    schemathesis
        .current_dir(work)
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .args([
            "-c",
            "from schemathesis.cli import schemathesis; schemathesis()",
            "--config-file",
        ])
        .arg(directory().join("schemathesis.toml"))
        .arg("run")
        .arg(workspace_root().join("docs/openapi.yaml"))
        .args([
            "--url",
            stack.endpoint(),
            "--phases",
            "examples,coverage,fuzzing",
            "--workers",
            "2",
        ])
        .args(options);
    succeed(stack.with(&mut schemathesis))
        .context("the API differs from its description in docs/openapi.yaml")
}

fn python() -> Result<Command> {
    let requirements = fs::read_to_string(directory().join("requirements.txt"))?;
    python::with_packages("python-openapi", &requirements, &[&directory()])
}

fn directory() -> PathBuf {
    workspace_root().join("tests/openapi")
}
