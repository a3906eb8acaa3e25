//! Python packages from PyPI.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use fs_err as fs;

use crate::cache;
use crate::command::{succeed_quietly, version};

/// `python3` with the packages of `requirements`, which has a version and a hash for each, and with
/// the modules in `modules`. The machine's own packages are excluded.
///
/// # Errors
/// If the packages cannot be installed.
pub fn with_packages(name: &str, requirements: &str, modules: &[&Path]) -> Result<Command> {
    let packages = packages(name, requirements)?;
    let path = [packages.as_path()]
        .into_iter()
        .chain(modules.iter().copied());
    let path = std::env::join_paths(path.map(AsRef::<OsStr>::as_ref))?;
    let mut python = Command::new("python3");
    python
        .arg("-S")
        .env("PYTHONPATH", path)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(python)
}

/// A directory with the packages of `requirements`, installed once for each list and version of
/// Python.
///
/// # Errors
/// If they cannot be installed.
pub fn packages(name: &str, requirements: &str) -> Result<PathBuf> {
    let recipe = format!("# {}\n{requirements}", version("python3")?);
    cache::get_or_make(name, &recipe, |directory, work| {
        eprintln!("installing {name} from PyPI, once");
        install(work, requirements, Some(directory)).map(drop)
    })
}

/// Makes a virtual environment in `work` and returns its `bin` directory. With `target` the
/// packages go into that directory instead.
///
/// # Errors
/// If it cannot be made.
pub fn install(work: &Path, requirements: &str, target: Option<&Path>) -> Result<PathBuf> {
    let log = work.join("pip.log");
    let list = work.join("requirements.txt");
    fs::write(&list, requirements)?;
    let environment = work.join("venv");
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&environment);
    succeed_quietly(&mut venv, &log).context(
        "failed to make a Python environment; on Debian and Ubuntu, \
         `apt-get install python3 python3-venv`",
    )?;
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
