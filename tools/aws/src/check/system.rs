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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Call {
        Call {
            words: ["bash", "-c", script].map(str::to_owned).into(),
            ..Call::default()
        }
    }

    fn system(interrupted: bool) -> System {
        System::new(
            Commands::new([].into()),
            Arc::new(AtomicBool::new(interrupted)),
        )
    }

    #[test]
    fn a_program_gets_its_input_and_environment() {
        let mut call = shell("read line; echo \"$line $X\"; echo e >&2; exit 3");
        call.input = "in\n".into();
        call.environment = [("X".to_owned(), "env".to_owned())].into();
        let done = system(false).call(&call).unwrap();
        assert_eq!(
            (done.status, done.stdout.as_str(), done.stderr.as_str()),
            (3, "in env\n", "e\n")
        );
    }

    #[test]
    fn an_interruption_ends_programs_but_those_that_put_something_back() {
        let began = Instant::now();
        assert!(system(true).call(&shell("sleep 60")).is_err());
        assert!(began.elapsed() < Duration::from_secs(30));
        let mut call = shell("sleep 0.1; echo back");
        call.firm = true;
        assert_eq!(system(true).call(&call).unwrap().stdout, "back\n");
    }

    /// The terminal sends its interruption to the foreground's process group.
    #[test]
    fn programs_are_in_a_group_of_their_own() {
        let done = system(false)
            .call(&shell("ps -o pgid= -p $$; echo $$"))
            .unwrap();
        let ids: Vec<_> = done.stdout.split_whitespace().collect();
        assert_eq!(ids[0], ids[1]);
    }
}
