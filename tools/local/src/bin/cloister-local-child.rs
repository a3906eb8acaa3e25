//! Becomes another program that ends with its parent:
//! `cloister-local-child PARENT PROGRAM [ARGUMENT …]`, where PARENT is the process id of its
//! parent.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(parent), Some(program)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: cloister-local-child PARENT PROGRAM [ARGUMENT …]");
        return ExitCode::from(2);
    };
    // The request outlives exec.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        eprintln!("failed to request an end with the parent: {error}");
        return ExitCode::FAILURE;
    }
    // A parent that ended before the request sends no signal.
    let now = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if now.as_deref() != parent.to_str() {
        return ExitCode::FAILURE;
    }
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("failed to start {}: {error}", program.display());
    ExitCode::FAILURE
}
