//! Runs other programs.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use fs_err as fs;

/// Runs a program to its end; its output is shown.
///
/// # Errors
/// If it does not start or does not succeed.
pub fn succeed(command: &mut Command) -> Result<()> {
    let program = name(command);
    let status = command.status().with_context(|| not_started(&program))?;
    ensure!(status.success(), "{program}: {status}");
    Ok(())
}

/// Runs a program to its end; its output is appended to `log`, the end of which is part of the
/// error.
///
/// # Errors
/// If it does not start or does not succeed.
pub fn succeed_quietly(command: &mut Command, log: &Path) -> Result<()> {
    let open = || {
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map(|file| file.into_parts().0)
    };
    let command = command.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
    succeed(command).map_err(|error| {
        let text = fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
        anyhow!("{end}\n{error:#}; its output is in {}", log.display())
    })
}

/// Runs a program and returns its standard output without the white space around it.
///
/// # Errors
/// If it does not start or does not succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let program = name(command);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| not_started(&program))?;
    ensure!(output.status.success(), "{program}: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The first line that `PROGRAM --version` prints.
///
/// # Errors
/// If the program does not start or does not succeed.
pub fn version(program: &str) -> Result<String> {
    let output = output(Command::new(program).arg("--version").env("LC_ALL", "C"))?;
    Ok(output.lines().next().unwrap_or_default().to_owned())
}

/// Runs two programs with the left one's output as the right one's input.
///
/// # Errors
/// If one of them does not start or does not succeed.
pub fn pipe(left: &mut Command, right: &mut Command) -> Result<()> {
    let program = name(left);
    let mut child = left
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| not_started(&program))?;
    let stdout = child.stdout.take().expect("stdout was set to be a pipe");
    let right = succeed(right.stdin(stdout));
    let status = child.wait().with_context(|| not_started(&program))?;
    right?;
    if !status.success() {
        bail!("{program}: {status}");
    }
    Ok(())
}

/// The number of processes a build may start.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn not_started(program: &str) -> String {
    format!("failed to run {program}")
}

const LINES_SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn either_end_of_a_pipe_fails_it() {
        assert!(pipe(&mut shell("echo x"), &mut shell("grep -q x")).is_ok());
        assert!(pipe(&mut shell("exit 3"), &mut shell("cat >&2")).is_err());
        assert!(pipe(&mut shell("echo x"), &mut shell("exit 3")).is_err());
    }

    #[test]
    fn a_quiet_failure_shows_the_end_of_the_log() {
        let log = std::env::temp_dir().join(format!("cloister-command-{}", std::process::id()));
        let error = succeed_quietly(&mut shell("echo the cause >&2; exit 3"), &log).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the cause\nsh: exit status: 3"),
            "{error}"
        );
        fs::remove_file(log).unwrap();
    }
}
