//! The processes of the stack: started, watched, stopped, and never left behind.
//!
//! Every process is started through the tiny `cloister-local-child`, which asks the kernel for a
//! SIGTERM when its parent ends and then becomes the program. So the stack ends with
//! `cloister-local` even when that is killed outright. The kernel counts the *thread* that started
//! a process as its parent; all are therefore started from one thread that lives as long as this
//! process.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A program as it is to be started.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name of the part in messages and of its log file.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment besides `PATH`: a part does not inherit ours.
    pub environment: Vec<(String, OsString)>,
}

impl Program {
    /// A program without arguments or environment.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds `--name value`.
    #[must_use]
    pub fn option(self, name: &str, value: impl Into<OsString>) -> Self {
        self.argument(format!("--{name}")).argument(value)
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Starts it. Standard output and error are appended to `LOGS/NAME.log`.
    ///
    /// # Errors
    /// If the executable is missing or the log file cannot be opened.
    pub fn start(&self, logs: &Path) -> anyhow::Result<Running> {
        anyhow::ensure!(
            self.path.exists(),
            "{} is missing: `cargo build --workspace --bins` builds it",
            self.path.display()
        );
        let log = logs.join(format!("{}.log", self.name));
        let output = OpenOptions::new().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("failed to open {}", log.display()))?;
        let log_start = output
            .metadata()
            .map(|metadata| metadata.len())
            .unwrap_or_default();

        let mut command = Command::new(binary("cloister-local-child")?);
        command
            .arg(std::process::id().to_string())
            .arg(&self.path)
            .args(&self.arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("failed to share a log file")?)
            .stderr(output);
        // Its own process group: Ctrl-C in a terminal reaches `cloister-local` alone, which then
        // stops the parts in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = spawn(command).with_context(|| format!("failed to start {}", self.name))?;
        Ok(Running {
            name: self.name.clone(),
            log,
            log_start,
            child,
        })
    }
}

/// The path of one of the workspace's programs: in the directory of this one, or the parent of a
/// test's directory.
///
/// # Errors
/// If the path of the running program is unknown.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    let mut directory = own.parent().unwrap_or(Path::new("."));
    if directory.ends_with("deps") {
        directory = directory.parent().unwrap_or(directory);
    }
    Ok(directory.join(name))
}

/// A started process. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    name: String,
    log: PathBuf,
    log_start: u64,
    child: Child,
}

impl Running {
    /// Name of the part.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its exit status.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub async fn wait(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Its log since it was started.
    ///
    /// # Errors
    /// If its log file cannot be read.
    pub fn output(&self) -> anyhow::Result<String> {
        let mut file = File::open(&self.log)
            .with_context(|| format!("failed to read {}", self.log.display()))?;
        file.seek(SeekFrom::Start(self.log_start))
            .context("failed to seek in a log file")?;
        let mut output = Vec::new();
        file.read_to_end(&mut output)
            .with_context(|| format!("failed to read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// Checks that a line of its log since it was started has this `event`.
    ///
    /// # Errors
    /// If its log file cannot be read.
    pub fn logged(&self, event: &str) -> anyhow::Result<bool> {
        let output = self.output()?;
        let mut lines = output
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(lines.any(|line| line["event"] == event))
    }

    /// An error about this part with the path and the last lines of its log.
    pub fn failure(&mut self, problem: &str) -> anyhow::Error {
        let ended = self
            .ended()
            .map(|status| format!(" ({status})"))
            .unwrap_or_default();
        let output = self.output().unwrap_or_default();
        let lines: Vec<&str> = output.lines().collect();
        let tail = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n    ");
        anyhow!(
            "{}: {problem}{ended}\n  its log is {}, and ends with\n    {tail}",
            self.name,
            self.log.display()
        )
    }

    /// Sends `signal`, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        // A child that was not waited for keeps its id: the signal cannot reach another process.
        if self.ended().is_none()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Sends SIGTERM, and SIGKILL if it still runs after `timeout`.
    pub fn stop(&mut self, timeout: Duration) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + timeout;
        while self.ended().is_none() {
            if Instant::now() > deadline {
                self.kill();
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop(STOP_TIMEOUT);
    }
}

/// Spawns from the one thread that never ends.
fn spawn(command: Command) -> std::io::Result<Child> {
    type Job = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in jobs {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, answer) = mpsc::channel();
    let spawner = SPAWNER.lock().expect("no thread panics while holding it");
    spawner
        .send((command, reply))
        .expect("the thread ends with the process only");
    drop(spawner);
    answer.recv().expect("the thread answers every job")
}

/// Time for a part to end after SIGTERM.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which a process that is waited for is checked.
const PAUSE: Duration = Duration::from_millis(20);
const LINES_SHOWN: usize = 12;
