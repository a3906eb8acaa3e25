//! Ends the enclave: the last line of the log, then a reboot, which the hypervisor takes for the end.

use std::panic::{self, PanicHookInfo};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cloister_contract::enclave_log::{End, InitEvent};
use rustix::system::{RebootCommand, reboot};

use crate::log::Log;

/// Writes the last line, waits until it was read, and stops the machine.
pub(crate) fn finish(log: &Log, end: End) -> ! {
    log.end(end);
    log.wait_until_read(READ_DEADLINE);
    stop()
}

/// Ends the enclave when a thread of init panics: its work would be left undone. A thread that is
/// [dispensable](spawn_dispensable) only stops.
pub(crate) fn with_panics(log: &Log) {
    let log = log.clone();
    panic::set_hook(Box::new(move |panic| {
        let (log, place) = (log.clone(), place(panic));
        if is_dispensable() {
            // Not in this thread: the log may be what panicked, and is locked.
            let _ = thread::Builder::new().spawn(move || log.event(InitEvent::Panicked { place }));
            // The thread unwinds and ends.
            return;
        }
        let end = End::InitFailed {
            error: format!("init panicked at {place}"),
        };
        let _ = thread::Builder::new().spawn(move || finish(&log, end));
        thread::sleep(2 * READ_DEADLINE);
        stop()
    }));
}

/// Starts a thread that only reports: its panic must not end the application.
pub(crate) fn spawn_dispensable(work: impl FnOnce() + Send + 'static) {
    // Without the thread there are no reports; the enclave continues.
    let _ = thread::Builder::new()
        .name(DISPENSABLE.to_owned())
        .spawn(work);
}

fn is_dispensable() -> bool {
    thread::current().name() == Some(DISPENSABLE)
}

/// Never the message, which could hold anything.
fn place(panic: &PanicHookInfo<'_>) -> String {
    panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// The hypervisor ends an enclave whose kernel reboots.
fn stop() -> ! {
    // sync(2) of a volume whose server is gone would block forever.
    let (synced, is_synced) = mpsc::channel();
    let _ = thread::Builder::new().spawn(move || {
        rustix::fs::sync();
        synced.send(())
    });
    let _ = is_synced.recv_timeout(SYNC_DEADLINE);
    let refused = reboot(RebootCommand::Restart);
    // PID 1 must not end either: the kernel panics then, and a panic reboots.
    eprintln!("reboot: {refused:?}");
    std::process::abort()
}

/// The name of threads whose panic does not end the enclave.
const DISPENSABLE: &str = "report";
/// For the last line to be read.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// For what was written to a volume to arrive.
const SYNC_DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::Value;

    use super::*;

    /// Replaces the hook of this process; the other tests' panics go to the same place.
    #[test]
    fn the_panic_of_a_thread_that_only_reports_is_logged_and_ends_nothing() {
        let log = Log::new();
        let default = panic::take_hook();
        with_panics(&log);
        let ours = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if is_dispensable() {
                ours(panic);
            }
            default(panic);
        }));
        spawn_dispensable(|| panic!("not to be logged"));

        let deadline = Instant::now() + Duration::from_secs(10);
        let line = loop {
            if let Some(line) = log.lines().pop() {
                break line;
            }
            assert!(Instant::now() < deadline, "nothing was logged");
            thread::yield_now();
        };
        let line: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["event"], "panicked");
        assert!(
            line["place"].as_str().unwrap().contains("end.rs:"),
            "{line}"
        );
        assert!(!line.to_string().contains("not to be logged"));
    }
}
