//! Verdicts on the outputs of commands.

use serde_json::Value;

use crate::check::line::{Variables, filled};
use crate::check::programs::Done;
use crate::check::row::Outcome;
use crate::error::Error;

/// The result of a row. The texts are not redacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As expected, with what was seen.
    Held(String),
    /// Otherwise, with what was seen.
    NotHeld(String),
    /// Unknown, with the reason.
    NotChecked(String),
    /// The deployment does not have what the row is about.
    NotApplicable(String),
}

impl Verdict {
    pub(crate) fn held(&self) -> bool {
        matches!(self, Self::Held(_))
    }
}

/// Judges the end of a command. `error` is AWS's answer to a command of `aws` that failed.
pub(crate) fn judge(
    outcome: Outcome,
    program: &str,
    done: &Done,
    error: Option<&Error>,
    variables: &Variables,
) -> Verdict {
    match outcome {
        Outcome::Denied(policy) => denied(policy, error),
        Outcome::Refused(code) => refused(code, error),
        Outcome::Ends(status, text) => ends(status, text, done),
        _ if done.status != 0 => failed(outcome, program, done, error),
        Outcome::Succeeds => Verdict::Held(last_line(&done.stdout)),
        // Programs tell their progress on standard error.
        Outcome::Contains(_) if program != "aws" && !done.stderr.is_empty() => {
            let all = Done {
                stdout: format!("{}\n{}", done.stdout, done.stderr),
                ..Done::default()
            };
            judge(outcome, program, &all, error, variables)
        }
        Outcome::Is(_) | Outcome::Contains(_) | Outcome::All(_) => {
            let expected = match outcome {
                Outcome::Is(text) | Outcome::Contains(text) | Outcome::All(text) => text,
                _ => "",
            };
            match filled(expected, variables) {
                Ok(expected) => of_output(outcome, &done.stdout, &expected),
                Err(name) => Verdict::NotChecked(format!("${name} is unknown")),
            }
        }
        _ => of_output(outcome, &done.stdout, ""),
    }
}

fn of_output(outcome: Outcome, stdout: &str, expected: &str) -> Verdict {
    let seen = text(stdout);
    let nothing = ["", "null", "[]", "{}", "None"].contains(&seen.as_str());
    let held = match outcome {
        Outcome::Is(_) => seen == expected,
        Outcome::Contains(_) => seen.contains(expected),
        Outcome::All(_) => match serde_json::from_str(stdout) {
            Ok(Value::Array(list)) => !list.is_empty() && list.iter().all(|of| of == expected),
            _ => false,
        },
        Outcome::Something => !nothing,
        Outcome::Nothing => nothing,
        #[expect(clippy::cast_precision_loss, reason = "the table's numbers are small")]
        Outcome::AtLeast(least) => seen.parse::<f64>().is_ok_and(|found| found >= least as f64),
        _ => true,
    };
    let seen = match outcome {
        // Of a long output its end.
        Outcome::Contains(_) => last_line(&seen),
        _ if nothing => "nothing".to_owned(),
        _ => seen,
    };
    match held {
        true => Verdict::Held(seen),
        false => Verdict::NotHeld(seen),
    }
}

/// An output, without the quotes that JSON puts around a text.
pub(crate) fn text(stdout: &str) -> String {
    match serde_json::from_str(stdout) {
        Ok(Value::String(text)) => text,
        Ok(value) => value.to_string(),
        Err(_) => stdout.trim().to_owned(),
    }
}

fn denied(policy: &str, error: Option<&Error>) -> Verdict {
    match error {
        None => Verdict::NotHeld("it was allowed".into()),
        Some(Error::NotPermitted { message, .. }) if message.contains(policy) => {
            Verdict::Held(message.clone())
        }
        // KMS: the call would have succeeded.
        Some(Error::Aws { code, .. }) if code == "DryRunOperationException" => {
            Verdict::NotHeld("it would be allowed".into())
        }
        Some(error) => Verdict::NotChecked(format!("it failed for another cause: {error}")),
    }
}

fn refused(expected: &str, error: Option<&Error>) -> Verdict {
    match error {
        None => Verdict::NotHeld("it was accepted".into()),
        Some(Error::NotPermitted { message, .. }) if expected == "AccessDenied" => {
            Verdict::Held(format!("AccessDenied: {message}"))
        }
        Some(Error::Aws { code, message, .. }) if code == expected => {
            Verdict::Held(format!("{code}: {message}"))
        }
        Some(error) => Verdict::NotChecked(format!("it failed for another cause: {error}")),
    }
}

fn ends(status: i32, text: &str, done: &Done) -> Verdict {
    let seen = format!("exit code {}: {}", done.status, explanation(done));
    let found = done.stdout.contains(text) || done.stderr.contains(text);
    match done.status == status && found {
        true => Verdict::Held(seen),
        false => Verdict::NotHeld(seen),
    }
}

/// Of a command that should have succeeded.
fn failed(outcome: Outcome, program: &str, done: &Done, error: Option<&Error>) -> Verdict {
    if let Some(error) = error {
        return match error {
            Error::Aws { code, message, .. } if absent(code, message) => {
                Verdict::NotHeld(format!("{code}: {message}"))
            }
            error => Verdict::NotChecked(error.to_string()),
        };
    }
    let seen = format!("exit code {}: {}", done.status, explanation(done));
    // Of `cloister`, 1 and 2 are failures of this machine.
    let local = program == "cloister" && done.status <= 2;
    match outcome {
        Outcome::Succeeds if !local => Verdict::NotHeld(seen),
        _ => Verdict::NotChecked(format!("{program} ended with {seen}")),
    }
}

/// True of the answers by which AWS says that something does not exist.
pub(crate) fn absent(code: &str, message: &str) -> bool {
    code.contains("NotFound")
        || code.starts_with("NoSuch")
        || code == "ValidationError" && message.contains("does not exist")
}

fn explanation(done: &Done) -> String {
    let stderr = last_line(&done.stderr);
    match stderr.is_empty() {
        true => last_line(&done.stdout),
        false => stderr,
    }
}

fn last_line(text: &str) -> String {
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or_default().to_owned()
}
