//! What nitro-cli's errors mean to the operator of the machine.
//!
//! An error of a running enclave comes as the message of the process that owns the enclave,
//! followed by nitro-cli's own `E39` or `E38`: the first message is the cause. What exactly failed
//! is the innermost step of its backtrace (`construct_error_message` in src/common/mod.rs,
//! `construct_backtrace` in src/common/document_errors.rs).

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::Output;
use crate::driver::DriverError;

/// Of a call that failed.
pub(super) fn explained(action: &str, output: &Output) -> DriverError {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let Some(cause) = Cause::of(&stderr) else {
        let said = excerpt(&output.stderr);
        return match output.status.code() {
            // Of the library that reads nitro-cli's command line.
            Some(2) => DriverError::failed(
                format!("nitro-cli cannot {action}: it does not know an option: {said}"),
                "install a newer aws-nitro-enclaves-cli (1.1 or later)",
            ),
            _ => DriverError::failed(
                format!("nitro-cli cannot {action}: {} and {said}", output.status),
                SEE_LOG,
            ),
        };
    };
    if cause.code == 36 && cause.root.contains("vsock bind error") {
        return DriverError::Busy(
            "another enclave of this machine is being started: nitro-cli starts one at a time, on vsock port 3:9000 (E36)"
                .to_owned(),
        );
    }
    let (meaning, remedy) = cause.meaning_and_remedy();
    let root = if cause.root.is_empty() {
        String::new()
    } else {
        format!("; {}", cause.root)
    };
    DriverError::failed(
        format!(
            "nitro-cli cannot {action}: {meaning} (E{:02}{root})",
            cause.code
        ),
        remedy,
    )
}

/// Whether a list was made without those that belong to somebody else or hang.
pub(super) fn some_enclaves_did_not_answer(output: &Output) -> bool {
    Cause::of(&String::from_utf8_lossy(&output.stderr)).is_some_and(|cause| cause.code == 39)
}

pub(super) fn not_run(program: &Path, error: &io::Error) -> DriverError {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => {
            "install aws-nitro-enclaves-cli, or name the program with CLOISTER_NITRO_CLI"
        }
        io::ErrorKind::PermissionDenied => "let the pod's user run it",
        _ => "see whether the machine lacks memory or processes",
    };
    DriverError::failed(format!("cannot run {}: {error}", program.display()), remedy)
}

pub(super) fn hung(command: &OsStr, deadline: Duration) -> DriverError {
    DriverError::failed(
        format!(
            "nitro-cli {} did not end within {} s and was stopped",
            command.display(),
            deadline.as_secs()
        ),
        SEE_LOG,
    )
}

pub(super) fn not_understood(error: &serde_json::Error, stdout: &[u8]) -> DriverError {
    DriverError::failed(
        format!(
            "nitro-cli said something unexpected: {error}: {}",
            excerpt(stdout)
        ),
        "see whether CLOISTER_NITRO_CLI names aws-nitro-enclaves-cli 1.1 or later",
    )
}

/// The beginning of it, in one line.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.is_empty() {
        "nothing was said".to_owned()
    } else {
        words.chars().take(EXCERPT_LEN).collect()
    }
}

/// The message that tells most.
#[derive(Debug, PartialEq, Eq)]
struct Cause<'a> {
    code: u8,
    /// The file that could not be used.
    file: &'a str,
    /// The innermost step that failed.
    root: &'a str,
}

impl<'a> Cause<'a> {
    fn of(stderr: &'a str) -> Option<Self> {
        // `[ E27 ] Insufficient memory available. …`
        let mut messages = stderr.match_indices("[ E").filter_map(|(at, _)| {
            let message = &stderr[at..];
            let (digits, rest) = message.get(3..)?.split_once(" ] ")?;
            (digits.len() == 2).then(|| digits.parse().ok().map(|code: u8| (code, rest)))?
        });
        let (code, message) = messages
            .clone()
            .find(|(code, _)| !matches!(code, 38 | 39))
            .or_else(|| messages.next())?;
        let message = message.split("[ E").next().unwrap_or_default();
        // `File: '/dev/nitro_enclaves', failing operation: 'Open'.`
        let file = message
            .split_once("File: '")
            .and_then(|(_, rest)| rest.split_once('\''))
            .map_or("", |(file, _)| file);
        let steps = message
            .split_once("Subactions:")
            .and_then(|(_, rest)| rest.split_once("Root error file:"));
        let root = steps
            .and_then(|(steps, _)| steps.trim().lines().last())
            .unwrap_or_default()
            .trim();
        Some(Self { code, file, root })
    }

    fn meaning_and_remedy(&self) -> (&'static str, &'static str) {
        let denied = self.root.contains("PermissionDenied");
        match self.code {
            1..=3 | 14 => (
                "it does not understand the pod",
                "install a newer aws-nitro-enclaves-cli (1.1 or later)",
            ),
            7 => (
                "the directory of its sockets cannot be read",
                "create /run/nitro_enclaves (systemd-tmpfiles --create), or mount it into the container, for the pod's user",
            ),
            19 if self.file == "/dev/nitro_enclaves" && denied => (
                "/dev/nitro_enclaves may not be opened",
                "let the pod's user read and write it: group `ne`, or the device plugin of Kubernetes",
            ),
            19 if self.file == "/dev/nitro_enclaves" || self.file.ends_with("/ne_cpus") => (
                "this machine runs no enclaves",
                "start the instance with enclaves enabled, load the module nitro_enclaves, and pass /dev/nitro_enclaves into the container",
            ),
            18 | 56 => ("its log cannot be written", LOG_REMEDY),
            19 if self.file.contains("/nitro_enclaves/") => {
                ("its log cannot be written", LOG_REMEDY)
            }
            19 => (
                "a file cannot be used",
                "see whether the image can be read by the pod's user",
            ),
            20..=24 | 32 => ("there are too few virtual CPUs", CPU_REMEDY),
            26 => (
                "the enclave has too little memory",
                "raise CLOISTER_ENCLAVE_MEMORY_MIB to four times the image's size",
            ),
            25 | 27 | 31 | 34 | 35 | 42 | 43 => ("there are too few huge pages", MEMORY_REMEDY),
            28..=30 | 33 if self.root.contains("full CPU cores") => (
                "an enclave gets whole cores",
                "set CLOISTER_ENCLAVE_CPUS to a multiple of the threads of a core: two on x86-64",
            ),
            28..=30 | 33 if self.root.contains("CPU") => {
                ("there are too few virtual CPUs", CPU_REMEDY)
            }
            28..=30 | 33 if self.root.contains("memory") => {
                ("there are too few huge pages", MEMORY_REMEDY)
            }
            28..=30 | 33 if self.root.contains("CID") => (
                "the context id is not accepted",
                "choose another CLOISTER_ENCLAVE_CID, or none",
            ),
            28..=30 | 33 => (
                "the driver of enclaves refused",
                "see the kernel's log for lines of nitro_enclaves",
            ),
            36 => (
                "the enclave did not boot",
                "see whether the image is for this architecture and its memory suffices; CLOISTER_ENCLAVE_DEBUG=true shows its console in this log",
            ),
            38 | 39 => (
                "a process that owns an enclave does not answer",
                "see whether it belongs to another user or hangs: nitro-cli describe-enclaves",
            ),
            44..=46 => (
                "the console is not to be had",
                "only an enclave that was started with CLOISTER_ENCLAVE_DEBUG=true has one",
            ),
            58 => (
                "the enclave's name is in use twice",
                "give each pod of this machine a CLOISTER_ENCLAVE_NAME of its own",
            ),
            59 => (
                "the image's signature is not valid",
                "build and sign the image again: its certificate may have expired",
            ),
            _ => (
                "it failed",
                "https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html tells more",
            ),
        }
    }
}

/// What to do when nothing better is known.
pub(super) const SEE_LOG: &str = "/var/log/nitro_enclaves/nitro_enclaves.log tells more";
const LOG_REMEDY: &str = "let the pod's user write to /var/log/nitro_enclaves";
const CPU_REMEDY: &str = "raise cpu_count in /etc/nitro_enclaves/allocator.yaml to the sum of all enclaves of this machine and restart nitro-enclaves-allocator.service";
const MEMORY_REMEDY: &str = "raise memory_mib in /etc/nitro_enclaves/allocator.yaml to the sum of all enclaves of this machine and restart nitro-enclaves-allocator.service; in Kubernetes, ask for as many huge pages";
/// Of what is quoted, in characters.
const EXCERPT_LEN: usize = 300;

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn failed(stderr: &[u8]) -> String {
        let output = Output {
            status: ExitStatus::from_raw(44 << 8),
            stdout: Vec::new(),
            stderr: stderr.to_vec(),
        };
        explained("show the console", &output).to_string()
    }

    #[test]
    fn an_enclave_without_a_console() {
        let said = failed(include_bytes!(
            "../../tests/nitro-cli/replies/44-no-console.stderr"
        ));
        assert!(
            said.contains(
                "the console is not to be had (E44; The enclave was not started with the debug flag"
            ),
            "{said}"
        );
        assert!(said.contains("CLOISTER_ENCLAVE_DEBUG"), "{said}");
    }

    #[test]
    fn messages_that_are_cut_or_odd_are_passed_on_as_far_as_they_go() {
        for (stderr, part) in [
            ("", "nothing was said"),
            ("[ E", "exit status: 44 and [ E:"),
            ("[ E36", "exit status: 44 and [ E36:"),
            ("[ Exx ] no", "exit status: 44 and [ Exx ] no:"),
            ("[ E99 ] news", "it failed (E99):"),
            ("[ E36 ] Backtrace: Subactions:", "did not boot (E36):"),
            (
                "\u{fffd}[ E19 ] File: '/dev/nitro_encl",
                "a file cannot be used (E19):",
            ),
            ("[ E39 ] [ E38 ]", "does not answer (E39):"),
        ] {
            let said = failed(stderr.as_bytes());
            assert!(said.contains(part), "{stderr:?}: {said}");
        }
    }
}
