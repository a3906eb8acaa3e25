//! A local stack for the duration of one command.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cloister_toolchain::cargo::{program, target_directory};
use fs_err as fs;

/// A running stack with its own data; both are removed when it is dropped.
pub(crate) struct LocalStack {
    process: Child,
    directory: PathBuf,
    /// The variables of `endpoint.env`.
    variables: Vec<(String, String)>,
}

impl LocalStack {
    /// Starts `cloister-local up` and waits until it answers. The programs must have been built.
    pub(crate) fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts it with further options of `cloister-local up`.
    pub(crate) fn start_with(options: &[&OsStr]) -> Result<Self> {
        let directory = target_directory()
            .join("local")
            .join(std::process::id().to_string());
        fs::create_dir_all(&directory)?;
        let (log, _) = fs::File::create(directory.join("up.log"))?.into_parts();
        let process = Command::new(program("cloister-local"))
            .args(["up", "--port", "0", "--data-dir"])
            .arg(&directory)
            .args(options)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("failed to run cloister-local")?;
        let mut stack = Self {
            process,
            directory,
            variables: Vec::new(),
        };
        stack.variables = stack.wait()?;
        Ok(stack)
    }

    /// Adds the stack's endpoint and credentials to a command's environment.
    pub(crate) fn with<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.variables.iter().map(|(name, value)| (name, value)))
    }

    /// The API's URL.
    pub(crate) fn endpoint(&self) -> &str {
        self.variables
            .iter()
            .find(|(name, _)| name == "CLOISTER_ENDPOINT")
            .map_or("", |(_, value)| value)
    }

    fn wait(&mut self) -> Result<Vec<(String, String)>> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            // Written last, when everything answers.
            if let Ok(file) = fs::read_to_string(self.directory.join("endpoint.env")) {
                let lines = file.lines().filter_map(|line| line.split_once('='));
                return Ok(lines
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect());
            }
            if self.process.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.join("up.log")).unwrap_or_default();
                bail!("the local stack does not start:\n{log}");
            }
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for LocalStack {
    fn drop(&mut self) {
        // It stops its processes on a signal, which std cannot send.
        let signalled = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        if !signalled.is_ok_and(|status| status.success()) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Anvil and the contracts may have to be installed.
const START_TIMEOUT: Duration = Duration::from_secs(300);
