//! `/init` of every image.

use std::alloc::System;
use std::convert::Infallible;
use std::process::ExitCode;

use cloister_init::sandbox::Role;
use zeroizing_alloc::ZeroAlloc;

/// Wipes memory when it is freed: init holds the boot key until it has handed it over.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // The kernel starts PID 1; PID 1 starts this program once more, which then replaces itself with
    // the application (or with the program of another role).
    let Err(error): Result<Infallible, _> = if std::process::id() == 1 {
        cloister_init::boot()
    } else {
        Role::from_arguments(std::env::args().skip(1)).take_on()
    };
    cloister_init::write_failure(&mut std::io::stderr(), &error);
    ExitCode::FAILURE
}
