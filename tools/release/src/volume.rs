//! Images of the volume profile: an application with a directory that the parent keeps.

use std::path::{Path, PathBuf};

use anyhow::Result;
use cloister_contract::Architecture;
use cloister_toolchain::command::succeed;
use fs_err as fs;

use crate::image_tool;
use crate::kernel::{self, Kernels};
use crate::measured::{self, BuildEnvironment};
use crate::paths::{command_line, release_directory};
use crate::release::Inputs;

/// Builds a release with the guest test as its application.
///
/// # Errors
/// If something cannot be built.
pub fn build_for_test() -> Result<()> {
    let architecture = Architecture::Amd64;
    let program = BuildEnvironment::here()?.build(&measured::GUEST_TEST, architecture)?;
    let application = (measured::GUEST_TEST.name.to_owned(), program);
    release(architecture, None, application).map(drop)
}

/// Builds a release with one application.
pub(crate) fn release(
    architecture: Architecture,
    cmdline: Option<PathBuf>,
    application: (String, PathBuf),
) -> Result<PathBuf> {
    let environment = BuildEnvironment::here()?;
    let cmdline = cmdline.unwrap_or_else(|| command_line("volume"));
    let mut inputs = Inputs::build(&environment, architecture, &[], cmdline)?;
    inputs.bridge = Some(environment.build(&measured::BRIDGE, architecture)?);
    inputs.applications = vec![application];
    inputs.record_all(kernel::inputs(architecture)?);
    let output = release_directory("volume-release", architecture);
    inputs.make_release(&Kernels::volume(architecture)?, &output)?;
    Ok(output)
}

/// Makes the image of a release's application.
pub(crate) fn image(
    release: &Path,
    application: &str,
    settings: &Path,
    output: &Path,
) -> Result<()> {
    fs::create_dir_all(output)?;
    let mut tool = image_tool::command()?;
    tool.arg("one")
        .arg("--release")
        .arg(release)
        .args(["--application", application])
        .arg("--settings")
        .arg(settings)
        .arg("--output")
        .arg(output.join(format!("{application}.eif")));
    succeed(&mut tool)
}
