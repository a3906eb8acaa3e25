//! Programs of this machine, which an interruption ends.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cloister_toolchain::cargo::{cargo, target_directory};
use cloister_toolchain::command::succeed;

use crate::check::programs::{Call, Done, Programs};
use crate::commands::{Commands, Line};

/// The machine's programs. `cloister` is built.
#[derive(Debug)]
pub(crate) struct System {
    commands: Commands,
    interrupted: Arc<AtomicBool>,
    cloister: OnceLock<()>,
}

impl System {
    pub(crate) fn new(commands: Commands, interrupted: Arc<AtomicBool>) -> Self {
        Self {
            commands,
            interrupted,
            cloister: OnceLock::new(),
        }
    }

    fn command(&self, call: &Call) -> Result<Command> {
        let line = Line::new(call.words.clone());
        if call.program() != "cloister" {
            let directory = if call.program() == "npx" { "cdk" } else { "" };
            return self.commands.command(&line.within(directory));
        }
        if self.cloister.get().is_none() {
            succeed(cargo().args(["build", "--quiet", "--locked", "--package", "cloister-cli"]))?;
            let _ = self.cloister.set(());
        }
        let mut command = Command::new(target_directory().join("debug/cloister"));
        command.args(&call.words[1..]);
        Ok(command)
    }
}

impl Programs for System {
    fn call(&self, call: &Call) -> Result<Done> {
        let mut command = self.command(call)?;
        let mut child = command
            .envs(&call.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The terminal's interruption is for this process alone, which decides.
            .process_group(0)
            .spawn()
            .with_context(|| format!("failed to run {}", call.program()))?;
        if let Some(mut input) = child.stdin.take() {
            // A program that does not read its input may end first.
            let _ = input.write_all(call.input.as_bytes());
        }
        finished(child, || {
            !call.firm && self.interrupted.load(Ordering::SeqCst)
        })
    }
}

fn finished(mut child: Child, ended: impl Fn() -> bool) -> Result<Done> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = thread::spawn(move || stdout.map(std::io::read_to_string));
    let stderr = thread::spawn(move || stderr.map(std::io::read_to_string));
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if ended() {
            child.kill()?;
            child.wait()?;
            bail!("interrupted");
        }
        thread::sleep(Duration::from_millis(20));
    };
    let text = |reader: thread::JoinHandle<Option<std::io::Result<String>>>| {
        let text = reader.join().ok().flatten();
        text.transpose().map(Option::unwrap_or_default)
    };
    Ok(Done {
        status: status.code().unwrap_or(-1),
        stdout: text(stdout)?,
        stderr: text(stderr)?,
    })
}

/// Sets the flag when the operator interrupts, as often as that happens.
///
/// # Errors
/// If the signals cannot be caught.
pub(crate) fn catch_interruptions(interrupted: &Arc<AtomicBool>) -> Result<()> {
    let flag = Arc::clone(interrupted);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (interrupt, terminate) = {
        let _context = runtime.enter();
        use tokio::signal::unix::{SignalKind, signal};
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async move {
            let (mut interrupt, mut terminate) = (interrupt, terminate);
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                flag.store(true, Ordering::SeqCst);
                eprintln!("\ninterrupted: whatever was changed is put back first");
            }
        });
    });
    Ok(())
}
