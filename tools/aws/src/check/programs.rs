//! The programs that checks run.

use std::collections::BTreeMap;

use anyhow::Result;

/// A command with its surroundings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    /// The program, then its arguments.
    pub(crate) words: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// Standard input.
    pub(crate) input: String,
    /// An interruption does not end it: it puts something back.
    pub(crate) firm: bool,
}

impl Call {
    pub(crate) fn program(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

/// The end of a command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs programs.
pub(crate) trait Programs: Send + Sync {
    /// Runs a program to its end.
    ///
    /// # Errors
    /// If it does not start, or ends because of an interruption.
    fn call(&self, call: &Call) -> Result<Done>;
}
