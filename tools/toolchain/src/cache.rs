//! Keeps what is slow to make between runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use fs_err as fs;

use crate::digest::{sha256, sha256_of_tree};

/// `$XDG_CACHE_HOME/cloister`, or `~/.cache/cloister`.
///
/// # Errors
/// If there is no home directory.
pub fn directory() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    base.or_else(|| Some(std::env::home_dir()?.join(".cache")))
        .map(|base| base.join("cloister"))
        .context("there is no home directory: set XDG_CACHE_HOME")
}

/// The directory `NAME-KEY`, where KEY is the recipe's hash: made by `make` the first time,
/// verified on first use.
///
/// `make` gets the directory to fill and one to work in, which is removed after a success and kept,
/// with its logs, after a failure. The finished directory gets its name last, so that no other
/// process sees it half made.
///
/// # Errors
/// If `make` fails or the cache cannot be written.
pub fn get_or_make(
    name: &str,
    recipe: &str,
    make: impl FnOnce(&Path, &Path) -> Result<()>,
) -> Result<PathBuf> {
    let finished = path_of(name, recipe)?;
    let verified = || VERIFIED.lock().unwrap_or_else(PoisonError::into_inner);
    if verified().contains(&finished) {
        return Ok(finished);
    }
    let _one_at_a_time = lock(name)?;
    let damage = match finished.exists() {
        true => verify(&finished).err(),
        false => Some(anyhow::anyhow!("missing")),
    };
    if let Some(damage) = damage {
        if finished.exists() {
            eprintln!(
                "{} is damaged and made again: {damage:#}",
                finished.display()
            );
            fs::remove_dir_all(&finished)?;
        }
        fill(&finished, recipe, make)?;
    }
    verified().insert(finished.clone());
    Ok(finished)
}

/// The finished directory of a recipe, if it has been made. Its content is not verified.
pub fn get(name: &str, recipe: &str) -> Option<PathBuf> {
    path_of(name, recipe)
        .ok()
        .filter(|finished| finished.exists())
}

fn path_of(name: &str, recipe: &str) -> Result<PathBuf> {
    Ok(directory()?.join(format!("{name}-{}", &sha256(recipe.as_bytes())[..16])))
}

fn fill(
    finished: &Path,
    recipe: &str,
    make: impl FnOnce(&Path, &Path) -> Result<()>,
) -> Result<()> {
    let [fresh, work] = ["new", "work"].map(|kind| finished.with_added_extension(kind));
    for directory in [&fresh, &work] {
        remove_dir_all(directory)?;
        fs::create_dir(directory)?;
    }
    make(&fresh, &work)?;
    fs::write(fresh.join("RECIPE"), recipe)?;
    let mut listing = String::new();
    for (name, hash) in sha256_of_tree(&fresh)? {
        writeln!(listing, "{hash}  ./{name}").expect("a String takes any text");
    }
    fs::write(fresh.join(LISTING), listing)?;
    fs::rename(&fresh, finished)?;
    remove_dir_all(&work)
}

/// Compares a finished directory with the listing that was written when it was made.
fn verify(finished: &Path) -> Result<()> {
    let listing = fs::read_to_string(finished.join(LISTING))?;
    let lines = listing.lines().filter_map(|line| line.split_once("  ./"));
    let expected: BTreeMap<_, _> = lines
        .map(|(hash, name)| (name.to_owned(), hash.to_owned()))
        .collect();
    let mut found = sha256_of_tree(finished)?;
    found.remove(LISTING);
    for (name, hash) in &expected {
        ensure!(found.get(name) == Some(hash), "{name} was changed");
    }
    ensure!(found.len() == expected.len(), "files were added");
    Ok(())
}

/// Waits until no other process holds the lock of this name; it is held until the file is dropped.
pub(crate) fn lock(name: &str) -> Result<fs::File> {
    let cache = directory()?;
    fs::create_dir_all(&cache)?;
    let path = cache.join(format!("{name}.lock"));
    let file = fs::File::create(&path)?;
    if file.file().try_lock().is_err() {
        eprintln!("waiting for another process that holds {}", path.display());
        file.file()
            .lock()
            .with_context(|| format!("failed to lock {}", path.display()))?;
    }
    Ok(file)
}

/// Removes a directory if it exists.
///
/// # Errors
/// If it exists and cannot be removed.
pub fn remove_dir_all(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

const LISTING: &str = "SHA256SUMS";

/// The entries that this process has verified or made.
static VERIFIED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_missing_or_added_file_is_damage() {
        let root = std::env::temp_dir().join(format!("cloister-cache-{}", std::process::id()));
        let entry = root.join("entry");
        fs::create_dir_all(&root).unwrap();
        let make = |directory: &Path, _: &Path| Ok(fs::write(directory.join("a"), "a")?);
        fill(&entry, "recipe", make).unwrap();
        verify(&entry).unwrap();

        fs::write(entry.join("a"), "b").unwrap();
        assert_eq!(verify(&entry).unwrap_err().to_string(), "a was changed");
        fs::write(entry.join("a"), "a").unwrap();
        fs::write(entry.join("b"), "").unwrap();
        assert_eq!(verify(&entry).unwrap_err().to_string(), "files were added");
        fs::remove_file(entry.join("b")).unwrap();
        fs::remove_file(entry.join("a")).unwrap();
        assert_eq!(verify(&entry).unwrap_err().to_string(), "a was changed");
        fs::remove_dir_all(root).unwrap();
    }
}
