//! Formats init's own lines, in the form of the application's.

use std::error::Error;
use std::io::Write;
use std::time::SystemTime;

use cloister_contract::ErrorChain;
use cloister_contract::enclave_log::{InitEvent, InitLine};

/// Writes the line of a program that cannot go on to a stream.
pub fn write_failure(out: &mut impl Write, error: &dyn Error) {
    let event = InitEvent::ProgramFailed {
        error: ErrorChain(error).to_string(),
    };
    // Nothing can be done if the write fails.
    let _ = out.write_all(&[&line(event), &b"\n"[..]].concat());
}

/// A line, without its end.
pub(super) fn line(event: InitEvent) -> Vec<u8> {
    let timestamp = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    serde_json::to_vec(&InitLine::new(timestamp, event))
        .expect("strings and numbers can be written as JSON")
}

#[cfg(test)]
mod tests {
    use std::io;

    use cloister_contract::enclave_log::End;
    use serde_json::Value;

    use super::*;
    use crate::error::BootError;

    #[test]
    fn a_line_has_a_time() {
        let line = line(InitEvent::EnclaveEnded(End::ApplicationSandbox));
        let line: Value = serde_json::from_slice(&line).unwrap();
        humantime::parse_rfc3339(line["timestamp"].as_str().unwrap()).unwrap();
        assert_eq!(line["event"], "enclave_ended");
        assert_eq!(line["reason"], "application_sandbox");
    }

    #[test]
    fn an_error_arrives_with_its_cause() {
        let error = BootError::LogPort(io::Error::other("address in use"));
        let mut out = Vec::new();
        write_failure(&mut out, &error);
        let line: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(line["event"], "program_failed");
        assert_eq!(
            line["error"],
            "failed to listen for readers of the log: address in use"
        );
    }
}
