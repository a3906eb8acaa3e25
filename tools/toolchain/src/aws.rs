//! The AWS command-line tool.

use std::process::Command;
use std::sync::LazyLock;

use anyhow::Result;

use crate::python;

/// `aws`: the user's own, or a pinned one from PyPI.
///
/// # Errors
/// If there is none and none can be installed.
pub fn command() -> Result<Command> {
    if *HAS_OWN {
        return Ok(Command::new("aws"));
    }
    let mut python = python::with_packages("awscli", include_str!("awscli.txt"), &[])?;
    python.args([
        "-c",
        "import sys; from awscli.clidriver import main; sys.exit(main())",
    ]);
    Ok(python)
}

static HAS_OWN: LazyLock<bool> = LazyLock::new(|| {
    let version = Command::new("aws").arg("--version").output();
    version.is_ok_and(|output| output.status.success())
});
