//! Stacks of CloudFormation: their states, which of them stop a deployment, and the causes of
//! failures.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::commands::{Commands, Line, elapsed};
use crate::error::Error;

/// The meaning of a status for the next deployment or destruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No such stack, or nothing but a change set that was never executed.
    Missing,
    /// Deployed; the last update may have been rolled back.
    Settled,
    /// CloudFormation is at work.
    Busy,
    /// Its creation failed and was rolled back: it can only be deleted.
    NotCreated,
    /// Its creation failed and was not rolled back.
    HalfCreated,
    /// An update failed and was not rolled back.
    HalfUpdated,
    /// Rolling an update back failed.
    HalfRolledBack,
    /// Deleting it failed: some of its resources are left.
    HalfDeleted,
}

impl State {
    /// Reads a status of CloudFormation.
    pub fn of(status: &str) -> Self {
        match status {
            "REVIEW_IN_PROGRESS" | "DELETE_COMPLETE" => Self::Missing,
            "CREATE_FAILED" => Self::HalfCreated,
            "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" => Self::NotCreated,
            "UPDATE_FAILED" => Self::HalfUpdated,
            "UPDATE_ROLLBACK_FAILED" => Self::HalfRolledBack,
            "DELETE_FAILED" => Self::HalfDeleted,
            status if status.ends_with("_IN_PROGRESS") => Self::Busy,
            _ => Self::Settled,
        }
    }
}

/// A stack.
#[derive(Debug)]
pub struct Stack<'a> {
    commands: &'a Commands,
    name: &'a str,
}

/// An operation on a stack, by the event that began it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation(Option<String>);

impl<'a> Stack<'a> {
    /// The stack of this name, if there is one.
    pub fn new(commands: &'a Commands, name: &'a str) -> Self {
        Self { commands, name }
    }

    /// Its status; `None` if it does not exist, and in a dry run.
    ///
    /// # Errors
    /// If AWS does not answer.
    pub fn status(&self) -> Result<Option<String>> {
        let describe = self
            .line("describe-stacks")
            .args(["--query", "Stacks[0].StackStatus"]);
        let answer = self.commands.read(&describe);
        match answer {
            Err(error) if is_missing(&error) => Ok(None),
            answer => Ok(answer?.map(|status| status.trim_matches('"').to_owned())),
        }
    }

    /// Its state.
    ///
    /// # Errors
    /// If AWS does not answer.
    pub fn state(&self) -> Result<State> {
        Ok(self.status()?.as_deref().map_or(State::Missing, State::of))
    }

    /// Brings it into a state from which it can be deployed: waits for what is at work, removes what
    /// was never created, rolls back what was half updated.
    ///
    /// # Errors
    /// If AWS does not answer, or only the operator can decide.
    pub fn prepare(&self) -> Result<()> {
        if self.commands.is_dry() {
            return Ok(());
        }
        let state = self.settled()?;
        if matches!(state, State::NotCreated | State::HalfCreated)
            && let Some(cause) = self.cause(&Operation::default())?
        {
            self.commands
                .say(&format!("an earlier attempt failed: {cause}"));
        }
        match state {
            State::Missing | State::Settled | State::Busy => Ok(()),
            State::NotCreated => self.delete(),
            // Deleting it would keep what has a policy against deletion; its rollback does not.
            State::HalfCreated => {
                self.unprotect()?;
                self.commands.change(&self.line("rollback-stack"))?;
                match self.settled()? {
                    State::Missing => Ok(()),
                    _ => self.delete(),
                }
            }
            State::HalfUpdated => {
                self.commands.change(&self.line("rollback-stack"))?;
                self.settled().map(drop)
            }
            State::HalfRolledBack => Err(self.stuck(
                "aws cloudformation continue-update-rollback --stack-name",
                "then repeat the command",
            )),
            State::HalfDeleted => self.delete(),
        }
    }

    /// Deletes it and waits for that.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub fn delete(&self) -> Result<()> {
        self.unprotect()?;
        self.commands.change(&self.line("delete-stack"))?;
        match self.settled()? {
            State::HalfDeleted => Err(self.stuck(
                "aws cloudformation describe-stack-events --stack-name",
                "remove the cause, then repeat the command",
            )),
            _ => Ok(()),
        }
    }

    /// Lifts its protection against deletion.
    ///
    /// # Errors
    /// If AWS refuses.
    pub fn unprotect(&self) -> Result<()> {
        let line = self.line("update-termination-protection");
        self.commands
            .change(&line.args(["--no-enable-termination-protection"]))
    }

    /// Waits until CloudFormation does nothing with it.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn wait(&self) -> Result<()> {
        match self.commands.is_dry() {
            true => Ok(()),
            false => self.settled().map(drop),
        }
    }

    /// The operation that began last.
    ///
    /// # Errors
    /// If AWS does not answer.
    pub fn operation(&self) -> Result<Operation> {
        let events = self.events()?;
        let began = events.iter().find(|event| self.begins(event));
        Ok(Operation(
            began.map(|event| text(event, "EventId").to_owned()),
        ))
    }

    /// The first failure of the operation that began last, if that is another one than `before`.
    ///
    /// # Errors
    /// If AWS does not answer.
    pub fn cause(&self, before: &Operation) -> Result<Option<Error>> {
        let events = self.events()?;
        let mut first = None;
        // Newest first. A rollback belongs to the operation that failed.
        for event in &events {
            let failed = text(event, "ResourceStatus").ends_with("_FAILED");
            let reason = text(event, "ResourceStatusReason");
            if failed
                && !CONSEQUENCES
                    .iter()
                    .any(|consequence| reason.contains(consequence))
            {
                first = Some(event);
            }
            if self.begins(event) {
                if before.0.as_deref() == Some(text(event, "EventId")) {
                    return Ok(None);
                }
                break;
            }
        }
        let Some(event) = first else {
            return Ok(None);
        };
        let status = self
            .status()?
            .unwrap_or_else(|| "DELETE_COMPLETE".to_owned());
        Ok(Some(Error::StackFailed {
            stack: self.name.to_owned(),
            status,
            resource: text(event, "LogicalResourceId").to_owned(),
            kind: text(event, "ResourceType").to_owned(),
            reason: text(event, "ResourceStatusReason")
                .trim_end_matches('.')
                .to_owned(),
            next: "remove the cause, then repeat the command".to_owned(),
        }))
    }

    /// Runs a command that deploys or destroys it, and finds the cause if that fails.
    ///
    /// # Errors
    /// If the command fails.
    pub fn attempt(&self, line: &Line, what: &str) -> Result<()> {
        if self.commands.is_dry() {
            return self.commands.run(line, what);
        }
        let before = self.operation()?;
        let outcome = self.commands.run(line, what);
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(self.cause(&before)?.map_or(error, Into::into)),
        }
    }

    /// Its state once CloudFormation does nothing with it.
    fn settled(&self) -> Result<State> {
        let began = Instant::now();
        let mut told = Instant::now();
        loop {
            let status = self.status()?;
            let state = status.as_deref().map_or(State::Missing, State::of);
            if state != State::Busy {
                return Ok(state);
            }
            if began.elapsed() > LONGEST {
                return Err(Error::TimedOut {
                    what: format!("{} of {}", status.unwrap_or_default(), self.name),
                    minutes: LONGEST.as_secs() / 60,
                    next: "look at its events in the console, then repeat the command".to_owned(),
                }
                .into());
            }
            if told == began || told.elapsed() > TOLD {
                told = Instant::now();
                let status = status.unwrap_or_default();
                eprintln!("  … {} is {status}, waited {}", self.name, elapsed(began));
            }
            thread::sleep(self.commands.pause);
        }
    }

    fn events(&self) -> Result<Vec<Value>> {
        let describe = self.line("describe-stack-events").args([
            "--max-items",
            "1000",
            "--query",
            "StackEvents",
        ]);
        let answer = match self.commands.read(&describe) {
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            answer => answer?.unwrap_or_else(|| "[]".to_owned()),
        };
        let events: Value = serde_json::from_str(&answer).context("the events are not JSON")?;
        Ok(events.as_array().cloned().unwrap_or_default())
    }

    /// True for the event with which an operation begins.
    fn begins(&self, event: &Value) -> bool {
        text(event, "ResourceType") == "AWS::CloudFormation::Stack"
            && text(event, "PhysicalResourceId") == text(event, "StackId")
            && BEGINNINGS.contains(&text(event, "ResourceStatus"))
    }

    fn line(&self, operation: &str) -> Line {
        Line::aws(["cloudformation", operation, "--stack-name", self.name])
    }

    fn stuck(&self, command: &str, then: &str) -> anyhow::Error {
        let status = self.status().ok().flatten().unwrap_or_default();
        Error::StackStuck {
            stack: self.name.to_owned(),
            status,
            next: format!("`{command} {}`, {then}", self.name),
        }
        .into()
    }
}

fn text<'a>(event: &'a Value, member: &str) -> &'a str {
    event[member].as_str().unwrap_or_default()
}

fn is_missing(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(Error::Aws { code, message, .. })
            if code == "ValidationError" && message.contains("does not exist")
    )
}

/// Statuses of a stack with which an operation begins.
const BEGINNINGS: &[&str] = &[
    "CREATE_IN_PROGRESS",
    "UPDATE_IN_PROGRESS",
    "DELETE_IN_PROGRESS",
    "IMPORT_IN_PROGRESS",
    "REVIEW_IN_PROGRESS",
];

/// Reasons of failures that another failure caused.
const CONSEQUENCES: &[&str] = &[
    "cancelled",
    "The following resource(s) failed",
    "Rollback requested",
];

const LONGEST: Duration = Duration::from_secs(2 * 3600);
const TOLD: Duration = Duration::from_secs(60);
