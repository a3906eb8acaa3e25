//! `/init` of every image.

use std::convert::Infallible;
use std::process::ExitCode;

use cloister_init::sandbox::Role;

fn main() -> ExitCode {
    // The kernel starts PID 1; PID 1 starts this same program once more, and that becomes the
    // application (or what it is told to become).
    let Err(error): Result<Infallible, _> = if std::process::id() == 1 {
        cloister_init::boot()
    } else {
        Role::from_arguments(std::env::args().skip(1)).take_on()
    };
    cloister_init::log::say(
        &mut std::io::stderr(),
        "the program cannot be started",
        &error,
    );
    ExitCode::FAILURE
}
