//! The report of a run: text, or JSON lines.

use std::fmt;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::stack::Stack;

/// Format of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text of at most 80 columns.
    Text,
    /// One JSON object per line.
    Json,
}

/// Writes the report while the steps run.
#[derive(Debug)]
pub struct Report {
    format: Format,
    started: Instant,
    chapter: u32,
    title: &'static str,
    held: u32,
}

impl Report {
    /// A report that begins now.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            started: Instant::now(),
            chapter: 0,
            title: "",
            held: 0,
        }
    }

    /// The stack is up.
    pub fn stack_is_up(&mut self, stack: &Stack) {
        let (endpoint, seconds) = (stack.endpoint(), self.started.elapsed().as_secs_f64());
        let measured = stack.measurements();
        let (signer, generator) = (measured.signer.to_string(), measured.generator.to_string());
        let enclaves = if stack.images().is_some() {
            "images in an emulator"
        } else {
            "processes"
        };
        match self.format {
            Format::Text => line(format_args!(
                "The stack answers at {endpoint} after {seconds:.1} s.\n\
                 Its enclaves are {enclaves}, PCR0\n  \
                 signer        {}\n                {}\n  \
                 key generator {}\n                {}",
                &signer[..48],
                &signer[48..],
                &generator[..48],
                &generator[48..],
            )),
            Format::Json => line(json!({
                "stack": endpoint, "seconds": rounded(seconds), "enclaves": enclaves,
                "signer_pcr0": signer, "key_generator_pcr0": generator,
            })),
        }
    }

    /// The next chapter begins.
    pub(super) fn chapter(&mut self, title: &'static str) {
        self.chapter += 1;
        self.title = title;
        if self.format == Format::Text {
            line(format_args!("\n{} {title}", self.chapter));
        }
    }

    /// A check held; `took` is the time of its request.
    pub(super) fn held(&mut self, what: &str, took: Option<Duration>) {
        self.held += 1;
        match self.format {
            Format::Text => line(text("✓", what, took)),
            Format::Json => {
                let mut object = json!({ "chapter": self.chapter, "title": self.title, "check": what, "held": true });
                if let Some(took) = took {
                    object["total_ms"] = json!(rounded(milliseconds(took)));
                }
                line(object);
            }
        }
    }

    /// The run is over.
    pub(super) fn conclude(&mut self, failure: Option<&anyhow::Error>) {
        let seconds = self.started.elapsed().as_secs_f64();
        match (self.format, failure) {
            (Format::Text, None) => line(format_args!(
                "\nEvery step held: {} checks in {seconds:.1} s",
                self.held
            )),
            (Format::Text, Some(failure)) => line(format_args!(
                "{}\n\nNot every step held",
                text("✗", &format!("{failure:#}"), None)
            )),
            (Format::Json, None) => {
                line(json!({ "held": true, "checks": self.held, "seconds": rounded(seconds) }))
            }
            (Format::Json, Some(failure)) => line(json!({
                "held": false, "chapter": self.chapter, "title": self.title, "failure": format!("{failure:#}"),
            })),
        }
    }
}

/// A check in lines of at most 80 columns, its time at the end of the last.
fn text(mark: &str, what: &str, took: Option<Duration>) -> String {
    let time = took.map(|took| format!("{:>9.1} ms", milliseconds(took)));
    let width = if time.is_some() {
        TEXT_WIDTH
    } else {
        TEXT_WIDTH + TIME_WIDTH
    };
    let mut lines = vec![String::new()];
    for word in what.split(' ') {
        let current = lines.last_mut().expect("there is a first line");
        // Characters of these texts have one column each.
        if current.is_empty() || current.chars().count() + 1 + word.chars().count() <= width {
            if !current.is_empty() {
                current.push(' ');
            }
            current.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    if let (Some(time), Some(last)) = (time, lines.last_mut()) {
        *last = format!("{last:<TEXT_WIDTH$}{time}");
    }
    format!("  {mark} {}", lines.join("\n    "))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A closed standard output is not a failure.
fn line(text: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// 80 columns are a mark, a text, and the time of a request.
const TEXT_WIDTH: usize = 64;
const TIME_WIDTH: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_a_terminal_of_80_columns() {
        let hash = format!("0x{}", "0f".repeat(32));
        let long = format!("mined as {hash}, sent by our address");
        for (what, took) in [
            ("short", None),
            ("short", Some(Duration::from_micros(1_234_567_890))),
            (&long[..], None),
            (&long[..], Some(Duration::from_millis(10))),
            (
                "a text that has exactly as many columns as fit: sixty-four, so!!",
                Some(Duration::ZERO),
            ),
        ] {
            let text = text("✓", what, took);
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
            let words: Vec<_> = text.split_whitespace().skip(1).collect();
            assert!(words.join(" ").starts_with(what), "{text}");
            assert_eq!(text.ends_with(" ms"), took.is_some(), "{text}");
        }
        assert_eq!(
            text("✓", "is signed", Some(Duration::from_millis(10))),
            format!("  ✓ {:<64}     10.0 ms", "is signed")
        );
    }
}
