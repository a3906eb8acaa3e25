//! Where things that are slow to make are kept between runs.

use std::path::PathBuf;

/// `$XDG_CACHE_HOME/cloister`, or `~/.cache/cloister`.
pub(crate) fn directory() -> Result<PathBuf, String> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    base.or_else(|| Some(std::env::home_dir()?.join(".cache")))
        .map(|base| base.join("cloister"))
        .ok_or_else(|| "there is no home directory: set XDG_CACHE_HOME".to_owned())
}
