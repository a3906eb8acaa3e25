//! A laptop stack for the time of one command.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::build::{cloister_local, target_directory};

/// A running stack with data of its own; both go when this is dropped.
pub(crate) struct LocalStack {
    process: Child,
    directory: PathBuf,
    /// What `endpoint.env` says.
    variables: Vec<(String, String)>,
}

impl LocalStack {
    /// Starts `cloister-local up` and waits until it answers. The programs have to be built.
    pub(crate) fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    /// The same with further options of `cloister-local up`.
    pub(crate) fn start_with(options: &[&OsStr]) -> Result<Self, String> {
        let target = target_directory();
        let directory = target.join("local").join(std::process::id().to_string());
        let problem = |error| format!("cannot use {}: {error}", directory.display());
        fs::create_dir_all(&directory).map_err(problem)?;
        let log = File::create(directory.join("up.log")).map_err(problem)?;
        let errors = log.try_clone().map_err(problem)?;
        let process = Command::new(cloister_local())
            .args(["up", "--data-dir"])
            .arg(&directory)
            .args(options)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("cloister-local does not start: {error}"))?;
        let mut stack = Self {
            process,
            directory,
            variables: Vec::new(),
        };
        stack.variables = stack.wait()?;
        Ok(stack)
    }

    /// Lets `command` call this stack.
    pub(crate) fn with<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.variables.iter().map(|(name, value)| (name, value)))
    }

    /// Where it answers.
    pub(crate) fn endpoint(&self) -> &str {
        self.variables
            .iter()
            .find(|(name, _)| name == "CLOISTER_ENDPOINT")
            .map_or("", |(_, value)| value)
    }

    fn wait(&mut self) -> Result<Vec<(String, String)>, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Written last, when everything answers.
            if let Ok(file) = fs::read_to_string(self.directory.join("endpoint.env")) {
                let lines = file.lines().filter_map(|line| line.split_once('='));
                return Ok(lines
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect());
            }
            let ended = self
                .process
                .try_wait()
                .map_err(|error| format!("cannot wait for the stack: {error}"))?;
            if ended.is_some() || Instant::now() > deadline {
                return Err(format!(
                    "the stack does not start:\n{}",
                    said(&self.directory)
                ));
            }
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for LocalStack {
    fn drop(&mut self) {
        // A signal, so that it stops its own processes; std has none to send.
        let asked = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn said(directory: &Path) -> String {
    fs::read_to_string(directory.join("up.log")).unwrap_or_default()
}

/// Anvil and the contracts may have to be installed.
const PATIENCE: Duration = Duration::from_secs(300);
