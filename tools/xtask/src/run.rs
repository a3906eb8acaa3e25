//! Running other programs.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a program to its end; what it prints is seen.
pub(crate) fn succeed(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program}: {status}")),
        Err(error) => Err(format!("{program} does not start: {error}")),
    }
}

/// Runs a program to its end; what it prints is appended to `log`, the end of which is shown when
/// the program fails.
pub(crate) fn succeed_quietly(command: &mut Command, log: &Path) -> Result<(), String> {
    let open = || OpenOptions::new().create(true).append(true).open(log);
    let (Ok(output), Ok(errors)) = (open(), open()) else {
        return Err(format!("cannot write {}", log.display()));
    };
    succeed(command.stdin(Stdio::null()).stdout(output).stderr(errors)).map_err(|problem| {
        let said = std::fs::read(log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        let end = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
        format!("{end}\n{problem}; all it said is in {}", log.display())
    })
}

/// What a program prints to standard output, without the white space around it.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{program} does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The first line of what `PROGRAM --version` prints.
pub(crate) fn version(program: &str) -> Result<String, String> {
    let output = output(Command::new(program).arg("--version").env("LC_ALL", "C"))?;
    Ok(output.lines().next().unwrap_or_default().to_owned())
}

/// Makes the left part's output the right part's input; both have to succeed.
pub(crate) fn pipe(left: &mut Command, right: &mut Command) -> Result<(), String> {
    let program = left.get_program().to_string_lossy().into_owned();
    let mut child = left
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program} does not start: {error}"))?;
    let right = succeed(right.stdin(child.stdout.take().expect("stdout was asked to be a pipe")));
    match child.wait() {
        Ok(status) if status.success() || right.is_err() => right,
        Ok(status) => Err(format!("{program}: {status}")),
        Err(error) => Err(format!("cannot wait for {program}: {error}")),
    }
}

/// How many processes a build may start.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

const LINES_SHOWN: usize = 40;
