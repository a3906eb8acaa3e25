//! Turns nitro-cli's errors into a cause and a remedy for the operator.
//!
//! An error of a running enclave is the message of the process that owns the enclave, followed by
//! nitro-cli's own `E39` or `E38`: the first message is the cause. The step that failed is the
//! innermost of its backtrace (`construct_error_message` in src/common/mod.rs,
//! `construct_backtrace` in src/common/document_errors.rs).

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use cloister_contract::ports;

use super::Output;
use crate::enclave::driver::DriverError;

/// The error of a failed call.
pub(super) fn failed(action: &str, output: &Output) -> DriverError {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let Some(cause) = Cause::of(&stderr) else {
        let said = excerpt(&output.stderr);
        return match output.status.code() {
            // The exit status of nitro-cli's argument parser.
            Some(2) => DriverError::failed(
                format!("nitro-cli failed to {action}: unknown option: {said}"),
                "install a newer aws-nitro-enclaves-cli (1.1 or later)",
            ),
            _ => DriverError::failed(
                format!("nitro-cli failed to {action}: {} and {said}", output.status),
                SEE_LOG,
            ),
        };
    };
    if cause.code == 36 && cause.root.contains("vsock bind error") {
        return DriverError::Busy(format!(
            "another enclave of this machine is starting: nitro-cli starts one at a time, on vsock port {}:{} (E36)",
            ports::PARENT_CID,
            ports::HEARTBEAT
        ));
    }
    let (meaning, remedy) = cause.meaning_and_remedy();
    let root = if cause.root.is_empty() {
        String::new()
    } else {
        format!("; {}", cause.root)
    };
    DriverError::failed(
        format!(
            "nitro-cli failed to {action}: {meaning} (E{:02}{root})",
            cause.code
        ),
        remedy,
    )
}

/// True if a list lacks the enclaves of other users and those that hang.
pub(super) fn some_enclaves_did_not_answer(output: &Output) -> bool {
    Cause::of(&String::from_utf8_lossy(&output.stderr)).is_some_and(|cause| cause.code == 39)
}

pub(super) fn not_run(program: &Path, error: &io::Error) -> DriverError {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => {
            "install aws-nitro-enclaves-cli, or name the program with CLOISTER_NITRO_CLI"
        }
        io::ErrorKind::PermissionDenied => "let the pod's user run it",
        _ => "check whether the machine lacks memory or processes",
    };
    DriverError::failed(
        format!("failed to run {}: {error}", program.display()),
        remedy,
    )
}

pub(super) fn hung(command: &OsStr, deadline: Duration) -> DriverError {
    DriverError::failed(
        format!(
            "nitro-cli {} did not exit within {} s and was killed",
            command.display(),
            deadline.as_secs()
        ),
        SEE_LOG,
    )
}

pub(super) fn malformed(error: &serde_json::Error, stdout: &[u8]) -> DriverError {
    DriverError::failed(
        format!(
            "nitro-cli printed malformed output: {error}: {}",
            excerpt(stdout)
        ),
        "check that CLOISTER_NITRO_CLI is aws-nitro-enclaves-cli 1.1 or later",
    )
}

/// The beginning of the text, in one line.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.is_empty() {
        "no output".to_owned()
    } else {
        words.chars().take(EXCERPT_LEN).collect()
    }
}

/// The most specific message.
#[derive(Debug, PartialEq, Eq)]
struct Cause<'a> {
    code: u8,
    /// The unusable file.
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
                "it does not support the pod's arguments",
                "install a newer aws-nitro-enclaves-cli (1.1 or later)",
            ),
            7 => (
                "the directory of its sockets is not readable",
                "create /run/nitro_enclaves (systemd-tmpfiles --create), or mount it into the container, for the pod's user",
            ),
            19 if self.file == "/dev/nitro_enclaves" && denied => (
                "access to /dev/nitro_enclaves is denied",
                "let the pod's user read and write it: group `ne`, or the device plugin of Kubernetes",
            ),
            19 if self.file == "/dev/nitro_enclaves" || self.file.ends_with("/ne_cpus") => (
                "enclaves are not enabled on this instance",
                "start the instance with enclaves enabled, load the module nitro_enclaves, and pass /dev/nitro_enclaves into the container",
            ),
            18 | 56 => ("its log is not writable", LOG_REMEDY),
            19 if self.file.contains("/nitro_enclaves/") => ("its log is not writable", LOG_REMEDY),
            19 => (
                "a file is unusable",
                "check that the pod's user can read the image",
            ),
            20..=24 | 32 => ("too few virtual CPUs are reserved", CPU_REMEDY),
            26 => (
                "the enclave has too little memory",
                "raise CLOISTER_ENCLAVE_MEMORY_MIB to four times the image's size",
            ),
            25 | 27 | 31 | 34 | 35 | 42 | 43 => ("too few huge pages are reserved", MEMORY_REMEDY),
            28..=30 | 33 if self.root.contains("full CPU cores") => (
                "an enclave needs whole cores",
                "set CLOISTER_ENCLAVE_CPUS to a multiple of the threads of a core: two on x86-64",
            ),
            28..=30 | 33 if self.root.contains("CPU") => {
                ("too few virtual CPUs are reserved", CPU_REMEDY)
            }
            28..=30 | 33 if self.root.contains("memory") => {
                ("too few huge pages are reserved", MEMORY_REMEDY)
            }
            28..=30 | 33 if self.root.contains("CID") => (
                "the context id is reserved",
                "choose another CLOISTER_ENCLAVE_CID, or none",
            ),
            28..=30 | 33 => (
                "the nitro_enclaves driver refused",
                "read the kernel's log for lines of nitro_enclaves",
            ),
            36 => (
                "the enclave did not boot",
                "check the image's architecture and the memory; CLOISTER_ENCLAVE_DEBUG=true copies the console to this log",
            ),
            38 | 39 => (
                "a process that owns an enclave does not answer",
                "run nitro-cli describe-enclaves: it belongs to another user, or hangs",
            ),
            44..=46 => (
                "the console is not available",
                "only an enclave that was started with CLOISTER_ENCLAVE_DEBUG=true has one",
            ),
            58 => (
                "the enclave's name is a duplicate",
                "give each pod of this machine its own CLOISTER_ENCLAVE_NAME",
            ),
            59 => (
                "the image's signature is not valid",
                "build and sign the image again: its certificate may have expired",
            ),
            _ => (
                "unknown error",
                "see https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html",
            ),
        }
    }
}

/// The remedy for unknown errors.
pub(super) const SEE_LOG: &str = "see /var/log/nitro_enclaves/nitro_enclaves.log";
const LOG_REMEDY: &str = "let the pod's user write to /var/log/nitro_enclaves";
const CPU_REMEDY: &str = "raise cpu_count in /etc/nitro_enclaves/allocator.yaml to the sum of all enclaves of this machine and restart nitro-enclaves-allocator.service";
const MEMORY_REMEDY: &str = "raise memory_mib in /etc/nitro_enclaves/allocator.yaml to the sum of all enclaves of this machine and restart nitro-enclaves-allocator.service; in Kubernetes, ask for as many huge pages";
/// Longest quotation of nitro-cli's output, in characters.
const EXCERPT_LEN: usize = 300;

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn message(stderr: &[u8]) -> String {
        let output = Output {
            status: ExitStatus::from_raw(44 << 8),
            stdout: Vec::new(),
            stderr: stderr.to_vec(),
        };
        failed("show the console", &output).to_string()
    }

    #[test]
    fn an_enclave_without_a_console() {
        let said = message(include_bytes!(
            "../../../tests/nitro-cli/replies/44-no-console.stderr"
        ));
        assert!(
            said.contains(
                "the console is not available (E44; The enclave was not started with the debug flag"
            ),
            "{said}"
        );
        assert!(said.contains("CLOISTER_ENCLAVE_DEBUG"), "{said}");
    }

    #[test]
    fn truncated_and_malformed_messages_are_quoted() {
        for (stderr, part) in [
            ("", "no output"),
            ("[ E", "exit status: 44 and [ E:"),
            ("[ E36", "exit status: 44 and [ E36:"),
            ("[ Exx ] no", "exit status: 44 and [ Exx ] no:"),
            ("[ E99 ] news", "unknown error (E99):"),
            ("[ E36 ] Backtrace: Subactions:", "did not boot (E36):"),
            (
                "\u{fffd}[ E19 ] File: '/dev/nitro_encl",
                "a file is unusable (E19):",
            ),
            ("[ E39 ] [ E38 ]", "does not answer (E39):"),
        ] {
            let said = message(stderr.as_bytes());
            assert!(said.contains(part), "{stderr:?}: {said}");
        }
    }
}
