//! Where things that are slow to make are kept between runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::digest::sha256;
use crate::run::succeed;

/// `$XDG_CACHE_HOME/cloister`, or `~/.cache/cloister`.
pub(crate) fn directory() -> Result<PathBuf, String> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    base.or_else(|| Some(std::env::home_dir()?.join(".cache")))
        .map(|base| base.join("cloister"))
        .ok_or_else(|| "there is no home directory: set XDG_CACHE_HOME".to_owned())
}

/// The directory `NAME-KEY`, where KEY is the recipe's hash: made by `make` the first time,
/// verified on every use.
///
/// `make` gets the directory to fill and one to work in, which goes once it succeeded (and stays,
/// with its logs, when it failed). Nothing is ever seen half made: the finished directory gets its
/// name last.
pub(crate) fn kept(
    name: &str,
    recipe: &str,
    make: impl FnOnce(&Path, &Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let cache = directory()?;
    fs::create_dir_all(&cache)
        .map_err(|error| format!("cannot create {}: {error}", cache.display()))?;
    let finished = entry(name, recipe)?;
    let _one_at_a_time = lock(&cache.join(format!("{name}.lock")))?;
    if finished.exists() {
        match verify(&finished) {
            Ok(()) => return Ok(finished),
            Err(problem) => eprintln!(
                "{} is damaged ({problem}); it is made again",
                finished.display()
            ),
        }
        remove(&finished)?;
    }
    let [fresh, work] = ["new", "work"].map(|kind| finished.with_added_extension(kind));
    for directory in [&fresh, &work] {
        remove(directory)?;
        fs::create_dir(directory)
            .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
    }
    make(&fresh, &work)?;
    fs::write(fresh.join("RECIPE"), recipe)
        .map_err(|error| format!("cannot write the recipe: {error}"))?;
    let listing = "find . -type f ! -name SHA256SUMS -print0 | LC_ALL=C sort -z | xargs -0 sha256sum > SHA256SUMS";
    succeed(Command::new("sh").current_dir(&fresh).args(["-c", listing]))?;
    fs::rename(&fresh, &finished)
        .map_err(|error| format!("cannot name {}: {error}", finished.display()))?;
    remove(&work)?;
    Ok(finished)
}

/// The finished directory of a recipe, if it has been made. Its content is not verified.
pub(crate) fn present(name: &str, recipe: &str) -> Option<PathBuf> {
    entry(name, recipe)
        .ok()
        .filter(|finished| finished.exists())
}

fn entry(name: &str, recipe: &str) -> Result<PathBuf, String> {
    Ok(directory()?.join(format!("{name}-{}", &sha256(recipe.as_bytes())?[..16])))
}

fn verify(finished: &Path) -> Result<(), String> {
    succeed(Command::new("sha256sum").current_dir(finished).args([
        "--check",
        "--quiet",
        "--strict",
        "SHA256SUMS",
    ]))
}

fn lock(path: &Path) -> Result<File, String> {
    let problem = |error| format!("cannot lock {}: {error}", path.display());
    let file = File::create(path).map_err(problem)?;
    if file.try_lock().is_err() {
        println!("waiting for another process that holds {}", path.display());
        file.lock().map_err(problem)?;
    }
    Ok(file)
}

fn remove(directory: &Path) -> Result<(), String> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", directory.display()))
        }
        _ => Ok(()),
    }
}
