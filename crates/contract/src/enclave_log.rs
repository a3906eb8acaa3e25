//! Records of an enclave's log, as its init writes them and its pod reads them.
//!
//! The log is served on [`LOG`](crate::ports::LOG), one JSON object a line. Lines of the
//! application are passed on unchanged, between those of init.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::events;

/// A line that init writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InitLine {
    /// RFC 3339, UTC.
    pub timestamp: String,
    /// Severity.
    pub level: Level,
    /// Distinguishes init's lines from the application's.
    pub target: InitTarget,
    /// English text for operators.
    pub message: Cow<'static, str>,
    /// The record.
    #[serde(flatten)]
    pub event: InitEvent,
}

impl InitLine {
    /// The line for `event`.
    pub fn new(timestamp: String, event: InitEvent) -> Self {
        Self {
            timestamp,
            level: event.level(),
            target: InitTarget::Init,
            message: event.message().into(),
            event,
        }
    }
}

/// The `target` of init's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InitTarget {
    /// Init.
    #[serde(rename = "cloister_init")]
    Init,
}

/// The members that a pod reads of a line of the application. All are optional: an application may
/// also print text, for example when it panics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ApplicationLine<'a> {
    /// Severity.
    pub level: Option<Level>,
    /// One of [`events::ALL`].
    #[serde(borrow)]
    pub event: Option<Cow<'a, str>>,
}

/// Severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Something failed for good.
    Error,
    /// Something failed that may succeed later, or that an operator should know.
    Warn,
    /// Normal operation.
    Info,
    /// Details.
    Debug,
    /// All details.
    Trace,
}

/// An event that init logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum InitEvent {
    /// The parent answered the heartbeat.
    ParentAnswered {
        /// The parent's vsock context id.
        cid: u32,
        /// The id of the NSM.
        module_id: String,
    },
    /// The clock was set at boot.
    ClockSet {
        /// Correction, in milliseconds.
        offset_ms: i64,
    },
    /// The clock was off by so much that it was set instead of slewed.
    ClockStepped {
        /// Correction, in milliseconds.
        offset_ms: i64,
    },
    /// The clock was not compared with the NSM's.
    ClockUnchecked {
        /// The cause.
        error: String,
        /// Failures in a row.
        failures: u32,
    },
    /// The application's volume was mounted.
    VolumeMounted {
        /// The server's vsock context id.
        cid: u32,
        /// The server's vsock port.
        port: u32,
        /// The exported path.
        export: String,
    },
    /// The application was started.
    ApplicationStarted {
        /// Memory that the application can allocate, in KiB.
        memory_available_kib: Option<u64>,
    },
    /// CPU and memory usage of the last ten seconds.
    Usage(Usage),
    /// Older lines were dropped before this reader saw them.
    LinesMissing {
        /// Number of lines.
        lines: u64,
    },
    /// A thread that only reports panicked; the enclave goes on.
    Panicked {
        /// File, line and column.
        place: String,
    },
    /// A program of the enclave failed to start.
    ProgramFailed {
        /// The cause.
        error: String,
    },
    /// The last line: the enclave ends.
    EnclaveEnded(End),
}

impl InitEvent {
    /// The name in the field `event`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ParentAnswered { .. } => events::PARENT_ANSWERED,
            Self::ClockSet { .. } => events::CLOCK_SET,
            Self::ClockStepped { .. } => events::CLOCK_STEPPED,
            Self::ClockUnchecked { .. } => events::CLOCK_UNCHECKED,
            Self::VolumeMounted { .. } => events::VOLUME_MOUNTED,
            Self::ApplicationStarted { .. } => events::APPLICATION_STARTED,
            Self::Usage(_) => events::USAGE,
            Self::LinesMissing { .. } => events::LINES_MISSING,
            Self::Panicked { .. } => events::PANICKED,
            Self::ProgramFailed { .. } => events::PROGRAM_FAILED,
            Self::EnclaveEnded(_) => events::ENCLAVE_ENDED,
        }
    }

    fn level(&self) -> Level {
        match self {
            Self::EnclaveEnded(_) | Self::ProgramFailed { .. } => Level::Error,
            Self::ClockStepped { .. }
            | Self::ClockUnchecked { .. }
            | Self::LinesMissing { .. }
            | Self::Panicked { .. } => Level::Warn,
            _ => Level::Info,
        }
    }

    fn message(&self) -> &'static str {
        match self {
            Self::ParentAnswered { .. } => "the parent answered the heartbeat",
            Self::ClockSet { .. } => "clock set",
            Self::ClockStepped { .. } => "clock stepped",
            Self::ClockUnchecked { .. } => "failed to check the clock",
            Self::VolumeMounted { .. } => "volume mounted",
            Self::ApplicationStarted { .. } => "application started",
            Self::Usage(_) => "usage",
            Self::LinesMissing { .. } => "older lines are missing",
            Self::Panicked { .. } => "a reporting thread panicked",
            Self::ProgramFailed { .. } => "the program failed to start",
            Self::EnclaveEnded(_) => "the enclave ends",
        }
    }
}

/// CPU and memory usage of an enclave, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in user mode.
    pub cpu_user_percent: f64,
    /// CPU time in the kernel.
    pub cpu_system_percent: f64,
    /// Memory that applications cannot allocate.
    pub memory_used_percent: f64,
    /// Page cache.
    pub memory_cached_percent: f64,
}

/// The cause of an enclave's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    /// The application exited.
    ApplicationExited {
        /// Its exit status.
        status: i32,
    },
    /// A signal ended the application: it crashed, or memory ran out.
    ApplicationKilled {
        /// The signal's number.
        signal: i32,
    },
    /// The application made a system call that its seccomp filter forbids.
    ApplicationSandbox,
    /// The boot failed before the application was started.
    BootFailed {
        /// The cause.
        error: String,
    },
    /// The application's volume became unreachable.
    VolumeFailed {
        /// The cause.
        error: String,
    },
    /// Init failed while the application ran.
    InitFailed {
        /// The cause.
        error: String,
    },
}

impl End {
    /// The name in the field `reason`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ApplicationExited { .. } => "application_exited",
            Self::ApplicationKilled { .. } => "application_killed",
            Self::ApplicationSandbox => "application_sandbox",
            Self::BootFailed { .. } => "boot_failed",
            Self::VolumeFailed { .. } => "volume_failed",
            Self::InitFailed { .. } => "init_failed",
        }
    }
}

/// The reason, then its detail in parentheses.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())?;
        match self {
            Self::ApplicationExited { status } => write!(f, " (status {status})"),
            Self::ApplicationKilled { signal } => write!(f, " (signal {signal})"),
            Self::ApplicationSandbox => Ok(()),
            Self::BootFailed { error }
            | Self::VolumeFailed { error }
            | Self::InitFailed { error } => write!(f, " ({error})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// One of each kind, with its own members.
    fn samples() -> Vec<(InitEvent, Value)> {
        let error = || "no \"nsm\"".to_owned();
        let ended = |end: End, mut members: Value| {
            members["reason"] = end.reason().into();
            (InitEvent::EnclaveEnded(end), members)
        };
        vec![
            (
                InitEvent::ParentAnswered {
                    cid: 3,
                    module_id: "i-1-enc2".into(),
                },
                json!({ "cid": 3, "module_id": "i-1-enc2" }),
            ),
            (
                InitEvent::ClockSet { offset_ms: -7 },
                json!({ "offset_ms": -7 }),
            ),
            (
                InitEvent::ClockStepped { offset_ms: 1500 },
                json!({ "offset_ms": 1500 }),
            ),
            (
                InitEvent::ClockUnchecked {
                    error: error(),
                    failures: 2,
                },
                json!({ "error": error(), "failures": 2 }),
            ),
            (
                InitEvent::VolumeMounted {
                    cid: 3,
                    port: 2049,
                    export: "/srv".into(),
                },
                json!({ "cid": 3, "port": 2049, "export": "/srv" }),
            ),
            (
                InitEvent::ApplicationStarted {
                    memory_available_kib: Some(90_000),
                },
                json!({ "memory_available_kib": 90_000 }),
            ),
            (
                InitEvent::Usage(Usage {
                    cpu_user_percent: 1.5,
                    cpu_system_percent: 0.0,
                    memory_used_percent: 33.3,
                    memory_cached_percent: 100.0,
                }),
                json!({
                    "cpu_user_percent": 1.5,
                    "cpu_system_percent": 0.0,
                    "memory_used_percent": 33.3,
                    "memory_cached_percent": 100.0,
                }),
            ),
            (
                InitEvent::LinesMissing { lines: 12 },
                json!({ "lines": 12 }),
            ),
            (
                InitEvent::Panicked {
                    place: "src/usage.rs:7:1".into(),
                },
                json!({ "place": "src/usage.rs:7:1" }),
            ),
            (
                InitEvent::ProgramFailed { error: error() },
                json!({ "error": error() }),
            ),
            ended(
                End::ApplicationExited { status: 101 },
                json!({ "status": 101 }),
            ),
            ended(End::ApplicationKilled { signal: 9 }, json!({ "signal": 9 })),
            ended(End::ApplicationSandbox, json!({})),
            ended(
                End::BootFailed { error: error() },
                json!({ "error": error() }),
            ),
            ended(
                End::VolumeFailed { error: error() },
                json!({ "error": error() }),
            ),
            ended(
                End::InitFailed { error: error() },
                json!({ "error": error() }),
            ),
        ]
    }

    #[test]
    fn lines_are_flat_objects_and_are_read_as_they_were_written() {
        for (event, members) in samples() {
            let line = InitLine::new("2026-01-01T00:00:00.000000Z".into(), event);
            let mut expected = members;
            expected["timestamp"] = line.timestamp.clone().into();
            expected["level"] = json!(line.level);
            expected["target"] = "cloister_init".into();
            expected["message"] = line.message.clone().into();
            expected["event"] = line.event.name().into();
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
            assert_eq!(serde_json::from_str::<InitLine>(&text).unwrap(), line);
            assert_eq!(events::find(line.event.name()), Some(line.event.name()));
        }
    }

    #[test]
    fn lines_of_others_are_not_inits() {
        for line in [
            r#"{"timestamp":"t","level":"INFO","target":"cloister_signer","message":"m","event":"clock_set","offset_ms":1}"#,
            r#"{"timestamp":"t","level":"INFO","target":"cloister_init","message":"m","event":"other"}"#,
            r#"{"timestamp":"t","level":"INFO","target":"cloister_init","message":"m","event":"usage"}"#,
            r#"{"timestamp":"t","level":"INFO","target":"cloister_init","message":"m","event":"enclave_ended","reason":7}"#,
            "thread 'main' panicked",
        ] {
            serde_json::from_str::<InitLine>(line).unwrap_err();
        }
    }

    #[test]
    fn an_applications_line_has_level_and_event() {
        let read = |line| serde_json::from_str::<ApplicationLine<'_>>(line);
        let line = read(r#"{"level":"WARN","event":"cmk_not_adopted","error":"e"}"#).unwrap();
        assert_eq!(line.level, Some(Level::Warn));
        assert_eq!(line.event.as_deref(), Some(events::CMK_NOT_ADOPTED));
        assert_eq!(read("{}").unwrap(), ApplicationLine::default());
        read("text").unwrap_err();
    }

    #[test]
    fn an_end_is_its_reason_and_detail() {
        for (end, text) in [
            (
                End::ApplicationExited { status: 101 },
                "application_exited (status 101)",
            ),
            (
                End::ApplicationKilled { signal: 9 },
                "application_killed (signal 9)",
            ),
            (End::ApplicationSandbox, "application_sandbox"),
            (
                End::BootFailed {
                    error: "no NSM".into(),
                },
                "boot_failed (no NSM)",
            ),
        ] {
            assert_eq!(end.to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn any_cause_survives_its_line(error in "\\PC{0,60}|[\\x00-\\x1f\"\\\\]{0,20}", failures: u32) {
            let line = InitLine::new(String::new(), InitEvent::ClockUnchecked { error, failures });
            let text = serde_json::to_string(&line).unwrap();
            prop_assert!(!text.contains('\n'));
            prop_assert_eq!(serde_json::from_str::<InitLine>(&text).unwrap(), line);
        }
    }
}
