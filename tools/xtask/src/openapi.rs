//! The published description of the API against what it describes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::build::{target_directory, workspace_root};
use crate::python;
use crate::run::succeed;
use crate::stack::LocalStack;

/// Every vector against the schemas, and schemathesis against a laptop stack.
pub(crate) fn test() -> Result<(), String> {
    succeed(python()?.arg(directory().join("vectors.py")))?;
    // The same requests every time: what fails has changed.
    generated(&["--max-examples", "10", "--seed", "1"])
}

/// The same with many more generated requests.
pub(crate) fn test_at_length() -> Result<(), String> {
    generated(&["--max-examples", "100"])
}

/// Requests that the description admits have to succeed, all others have to be refused, and every
/// answer has to be as described.
fn generated(options: &[&str]) -> Result<(), String> {
    let stack = LocalStack::start()?;
    let work = target_directory().join("openapi");
    fs::create_dir_all(&work)
        .map_err(|error| format!("cannot create {}: {error}", work.display()))?;
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
        .map_err(|_| "the API is not as docs/openapi.yaml describes it".to_owned())
}

/// `python3` with the packages of `requirements.txt`.
fn python() -> Result<Command, String> {
    let requirements = directory().join("requirements.txt");
    let packages = python::kept("python-openapi", &requirements)?;
    let path = std::env::join_paths([packages, directory()]).map_err(|error| error.to_string())?;
    let mut python = Command::new("python3");
    // Without the machine's own packages and what they do to others when Python starts.
    python
        .arg("-S")
        .env("PYTHONPATH", path)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(python)
}

fn directory() -> PathBuf {
    workspace_root().join("tests/openapi")
}
