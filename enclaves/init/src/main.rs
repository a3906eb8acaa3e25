//! `/init` of every image.

use std::convert::Infallible;
use std::process::ExitCode;

fn main() -> ExitCode {
    // The kernel starts PID 1; PID 1 starts this same program once more, and that becomes the application.
    let Err(error): Result<Infallible, _> =
        if std::process::id() == 1 { cloister_init::boot() } else { cloister_init::sandbox::become_application() };
    cloister_init::log::say(&mut std::io::stderr(), "the application cannot be started", &error);
    ExitCode::FAILURE
}
