//! Results of commands, as text and as JSON.

use std::io::{self, Write as _};
use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

use crate::failure::EXIT_NO;

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Answer {
    text: String,
    json: Option<Value>,
    held: bool,
}

impl Answer {
    /// A result as text and as JSON.
    pub(crate) fn new(text: impl Into<String>, json: &impl Serialize) -> Self {
        let json =
            serde_json::to_value(json).expect("structs of strings and numbers have a JSON form");
        Self {
            text: text.into(),
            json: Some(json),
            held: true,
        }
    }

    /// A result that is the same text with and without `--json`, such as a policy or a script.
    pub(crate) fn verbatim(text: String) -> Self {
        Self {
            text,
            json: None,
            held: true,
        }
    }

    /// Sets the outcome of a check.
    pub(crate) fn held(self, held: bool) -> Self {
        Self { held, ..self }
    }

    pub(crate) fn print(self, json: bool) -> ExitCode {
        let text = match (&self.json, json) {
            (Some(value), true) => format!("{value:#}"),
            _ => self.text,
        };
        // A closed pipe is not an error.
        let _ = writeln!(io::stdout(), "{}", text.trim_end());
        if self.held {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(EXIT_NO)
        }
    }
}

/// `name   value` lines.
pub(crate) fn fields<const N: usize>(rows: [(&str, &str); N]) -> String {
    table(
        None,
        rows.map(|(name, value)| vec![name.to_owned(), value.to_owned()]),
    )
}

/// Columns without lines, as wide as their content.
pub(crate) fn table(
    header: Option<&[&str]>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    if let Some(header) = header {
        table.set_header(header.iter().copied());
    }
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        assert_eq!(
            fields([("key id", "1"), ("address", "0x2")]),
            "key id   1\naddress  0x2"
        );
    }
}
