//! Packages from PyPI, in virtual environments.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;
use crate::run::{succeed_quietly, version};

/// A directory with the packages of a file of requirements, for `PYTHONPATH`: installed once for
/// every file and Python.
pub(crate) fn kept(name: &str, requirements: &Path) -> Result<PathBuf, String> {
    let list = std::fs::read_to_string(requirements)
        .map_err(|error| format!("cannot read {}: {error}", requirements.display()))?;
    let recipe = format!("# {}\n{list}", version("python3")?);
    cache::kept(name, &recipe, |directory, work| {
        println!(
            "installing the packages of {} from PyPI, once",
            requirements.display()
        );
        packages(work, &list, Some(directory)).map(drop)
    })
}

/// Makes a virtual environment in `work` and returns its `bin` directory. `requirements` has a
/// version and a hash per line; with `target` the packages go into that directory instead.
pub(crate) fn packages(
    work: &Path,
    requirements: &str,
    target: Option<&Path>,
) -> Result<PathBuf, String> {
    let log = work.join("pip.log");
    let list = work.join("requirements.txt");
    std::fs::write(&list, requirements)
        .map_err(|error| format!("cannot write {}: {error}", list.display()))?;
    let environment = work.join("venv");
    succeed_quietly(
        Command::new("python3")
            .args(["-m", "venv"])
            .arg(&environment),
        &log,
    )
    .map_err(|problem| {
        format!("{problem}\n`python3` with `venv` is needed (Debian: apt-get install python3-venv)")
    })?;
    let bin = environment.join("bin");
    let mut pip = Command::new(bin.join("pip"));
    pip.args([
        "install",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
    ]);
    pip.arg("--requirement").arg(&list);
    if let Some(target) = target {
        pip.arg("--target").arg(target);
    }
    succeed_quietly(&mut pip, &log)?;
    Ok(bin)
}
