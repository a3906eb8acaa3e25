//! Directories and files of images, in the source and in the target directory.

use std::path::PathBuf;

use cloister_contract::Architecture;
use cloister_toolchain::cargo::{target_directory, workspace_root};

/// The directory of everything about images.
pub(crate) fn directory() -> PathBuf {
    target_directory().join("images")
}

/// The images of the deployment that was made last without `--output`.
pub(crate) fn default_output() -> PathBuf {
    directory().join("deployment")
}

pub(crate) fn release_directory(kind: &str, architecture: Architecture) -> PathBuf {
    directory().join(format!("{kind}-{architecture}"))
}

/// The command line of a profile.
pub(crate) fn command_line(profile: &str) -> PathBuf {
    workspace_root()
        .join("enclaves/image")
        .join(format!("{profile}.cmdline"))
}

/// Resolves a path where the command was typed: builds run in the workspace's root.
pub(crate) fn absolute(path: &str) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}

/// Settings of a deployment that does not exist.
pub(crate) const EXAMPLE_SETTINGS: &str = "enclaves/image/example-settings.json";
