//! Work of a test run that is done while its steps leave processors idle.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cloister_toolchain::cargo::{program, target_directory};
use cloister_toolchain::command::succeed;
use fs_err as fs;

/// The builds of emulator and kernels, with the lowest priority. They end when this is dropped, or
/// when this process ends.
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
            .arg(program(XTASK))
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

/// A step that runs in a process of its own, with the lowest priority, until its turn in the run.
pub(crate) struct EarlyStep {
    log: PathBuf,
    process: JoinHandle<(Result<()>, Duration)>,
}

impl EarlyStep {
    /// Starts it; its output goes to `target/STEP.log`.
    pub(crate) fn start(step: &str) -> Result<Self> {
        let log = target_directory().join(format!("{step}.log"));
        let (file, _) = fs::File::create(&log)?.into_parts();
        let mut command = Command::new("nice");
        command
            .args(["-n", "19"])
            .arg(program(XTASK))
            .args(["test", "--step", step])
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let process = thread::spawn(move || {
            let started = Instant::now();
            (succeed(&mut command), started.elapsed())
        });
        Ok(Self { log, process })
    }

    /// Waits for its end, prints its output, and returns its outcome and the time it took.
    pub(crate) fn finish(self) -> (Result<()>, Duration) {
        let finished = self.process.join().expect("the thread only runs a process");
        print!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        finished
    }
}

const XTASK: &str = "cloister-xtask";

/// `cat` ends when the other end of standard input is closed, also by a Ctrl-C; the process group
/// then ends with everything that the build started.
const SCRIPT: &str = r#"
(nice -n 19 "$0" emulator && nice -n 19 "$0" kernel) </dev/null &
cat
kill -- -$$
"#;
