//! The application's process: its input, its output and its end.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use cloister_contract::enclave_log::End;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use zeroize::Zeroizing;

use crate::child::{copy_lines, pid};
use crate::error::BootError;
use crate::log::Log;
use crate::sandbox::Role;
use crate::volume::{self, Volume};

/// The running application.
#[derive(Debug)]
pub(crate) struct Application {
    pid: Pid,
    /// Disconnected once its whole output is in the log.
    output: Receiver<()>,
}

impl Application {
    /// Starts it and writes the private half of the boot key to its standard input.
    ///
    /// # Errors
    /// [`BootError::Application`].
    pub(crate) fn start(
        log: &Log,
        scalar: Zeroizing<[u8; 32]>,
        role: &Role,
    ) -> Result<Self, BootError> {
        Self::spawn(role.command(), log, scalar).map_err(BootError::Application)
    }

    fn spawn(mut command: Command, log: &Log, scalar: Zeroizing<[u8; 32]>) -> io::Result<Self> {
        command
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pid = pid(&child)?;
        let (copying, output) = mpsc::channel();
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            copy_lines(stdout, log.clone(), copying.clone());
            copy_lines(stderr, log.clone(), copying);
        }
        // A pipe's buffer holds that much; dropping the pipe ends the input.
        match child
            .stdin
            .take()
            .map(|mut stdin| stdin.write_all(scalar.as_slice()))
        {
            // It has ended already; `wait` returns the cause.
            Some(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.transpose().map(drop)?,
        }
        Ok(Self { pid, output })
    }

    /// Reaps processes until the application, or its volume's bridge, without which it must not go
    /// on, has ended. Returns the cause.
    pub(crate) fn wait(self, volume: Option<&Volume>) -> End {
        let status = loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid == self.pid => break status,
                Ok(Some((pid, status))) if volume.is_some_and(|volume| pid == volume.bridge) => {
                    return volume::bridge_ended(status);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    return End::InitFailed {
                        error: format!("failed to wait for the application: {error}"),
                    };
                }
            }
        };
        // Another process that holds the pipes must not delay the end.
        let _ = self.output.recv_timeout(OUTPUT_DEADLINE);
        end(status)
    }
}

fn end(status: WaitStatus) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => End::ApplicationExited { status },
        (None, Some(libc::SIGSYS)) => End::ApplicationSandbox,
        (None, signal) => End::ApplicationKilled {
            signal: signal.unwrap_or_default(),
        },
    }
}

const OUTPUT_DEADLINE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, because it waits for whichever child ends.
    #[test]
    fn the_application_gets_its_key_and_its_end_is_told_apart() {
        for (script, expected) in [
            ("exit 0", End::ApplicationExited { status: 0 }),
            ("exit 3", End::ApplicationExited { status: 3 }),
            ("kill -ABRT $$", End::ApplicationKilled { signal: 6 }),
            ("kill -SYS $$", End::ApplicationSandbox),
            (
                "sleep 5 & kill -KILL $$",
                End::ApplicationKilled { signal: 9 },
            ),
            (
                "test $(head -c 100 | wc -c) = 32 && test -z \"$HOME\" && echo held",
                End::ApplicationExited { status: 0 },
            ),
        ] {
            let log = Log::new();
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            let application = Application::spawn(command, &log, Zeroizing::new([7; 32])).unwrap();
            let end = application.wait(None);
            assert_eq!(end, expected, "{script}");
            log.end(end);
            let mut written = Vec::new();
            log.copy_to(&mut written).unwrap();
            assert_eq!(
                written.starts_with(b"held\n"),
                script.ends_with("echo held"),
                "{script}"
            );
        }
    }
}
