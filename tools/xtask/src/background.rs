//! Builds the emulator and the kernels while the first steps of a test run leave processors idle.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use cloister_toolchain::cargo::target_directory;
use fs_err as fs;

/// A build with the lowest priority. It ends when this is dropped, or when this process ends.
///
/// The steps that need its results wait for them: the cache lets one process at a time make an
/// entry. A step whose entry could not be made here makes it again, and shows why it fails.
pub(crate) struct Background(Child);

impl Background {
    /// Starts it; its output goes to `target/background.log`.
    pub(crate) fn start() -> Result<Self> {
        let log = target_directory().join("background.log");
        let (log, _) = fs::File::create(log)?.into_parts();
        Command::new("sh")
            .args(["-c", SCRIPT])
            .arg(std::env::current_exe()?)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map(Self)
            .context("failed to run sh")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// `cat` ends when the other end of standard input is closed, also by a Ctrl-C; the process group
/// then ends with everything that the build started.
const SCRIPT: &str = r#"
(nice -n 19 "$0" emulator && nice -n 19 "$0" kernel) </dev/null &
cat
kill -- -$$
"#;
