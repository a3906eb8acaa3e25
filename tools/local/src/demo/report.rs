//! The account of a run: for a reader, or as JSON lines.

// Standard output is what the demonstration is for.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// How the account is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text for a reader.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where the time of one request went.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Timing {
    /// As the caller saw it.
    pub(super) total: Duration,
    /// What each hop says it took, in milliseconds: the `Server-Timing` header of the answer. A hop's time includes the hops
    /// behind it.
    pub(super) hops: Vec<(String, f64)>,
}

impl Timing {
    /// Reads a `Server-Timing` header, <https://www.w3.org/TR/server-timing/>; metrics without a duration are left out.
    pub(super) fn new(total: Duration, server_timing: &str) -> Self {
        let hops = server_timing.split(',').filter_map(|metric| {
            let mut fields = metric.split(';').map(str::trim);
            let name = fields.next()?;
            let duration = fields.find_map(|field| field.strip_prefix("dur="))?.parse().ok()?;
            Some((name.to_owned(), duration))
        });
        Self { total, hops: hops.collect() }
    }
}

/// Writes the account while the steps run.
#[derive(Debug)]
pub struct Report {
    format: Format,
    started: Instant,
    chapter: u32,
    title: &'static str,
    held: u32,
}

impl Report {
    /// An account that begins now.
    pub fn new(format: Format) -> Self {
        Self { format, started: Instant::now(), chapter: 0, title: "", held: 0 }
    }

    /// The stack is up.
    pub fn stack_is_up(&mut self, endpoint: &str, logs: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        match self.format {
            Format::Text => println!("The stack answers at {endpoint} after {seconds:.1} s; its logs are in {logs}"),
            Format::Json => line(&json!({ "stack": endpoint, "logs": logs, "seconds": rounded(seconds) })),
        }
    }

    /// The next chapter begins.
    pub(super) fn chapter(&mut self, title: &'static str) {
        self.chapter += 1;
        self.title = title;
        if self.format == Format::Text {
            println!("\n{} {title}", self.chapter);
        }
    }

    /// Something was seen to hold.
    pub(super) fn held(&mut self, what: &str, timing: Option<&Timing>) {
        self.held += 1;
        match self.format {
            Format::Text => match timing {
                Some(timing) => println!("  ✓ {what:<WIDTH$} {}", text(timing)),
                None => println!("  ✓ {what}"),
            },
            Format::Json => {
                let mut object = json!({ "chapter": self.chapter, "title": self.title, "check": what, "held": true });
                if let Some(timing) = timing {
                    let hops: Map<String, Value> =
                        timing.hops.iter().map(|(name, duration)| (name.clone(), json!(rounded(*duration)))).collect();
                    object["total_ms"] = json!(rounded(timing.total.as_secs_f64() * 1000.0));
                    object["hops_ms"] = hops.into();
                }
                line(&object);
            }
        }
    }

    /// The run is over.
    pub(super) fn conclude(&mut self, failure: Option<&anyhow::Error>) {
        let seconds = self.started.elapsed().as_secs_f64();
        match (self.format, failure) {
            (Format::Text, None) => println!("\nEvery step held: {} checks in {seconds:.1} s", self.held),
            (Format::Text, Some(failure)) => println!("  ✗ {failure:#}\n\nNot every step held"),
            (Format::Json, None) => line(&json!({ "held": true, "checks": self.held, "seconds": rounded(seconds) })),
            (Format::Json, Some(failure)) => line(&json!({
                "held": false, "chapter": self.chapter, "title": self.title, "failure": format!("{failure:#}"),
            })),
        }
    }
}

fn text(timing: &Timing) -> String {
    let mut text = format!("{:>7.1} ms", timing.total.as_secs_f64() * 1000.0);
    for (index, (name, duration)) in timing.hops.iter().enumerate() {
        text.push_str(if index == 0 { "   " } else { " · " });
        text.push_str(&format!("{name} {duration:.1}"));
    }
    text
}

fn line(object: &Value) {
    println!("{object}");
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

const WIDTH: usize = 86;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_timing_is_read() {
        let timing = Timing::new(Duration::from_millis(9), "front-door;dur=8.5, pod;desc=\"x\";dur=7, cache");
        assert_eq!(timing.hops, [("front-door".to_owned(), 8.5), ("pod".to_owned(), 7.0)]);
        assert_eq!(text(&timing), "    9.0 ms   front-door 8.5 · pod 7.0");
        assert_eq!(Timing::new(Duration::ZERO, "").hops, []);
    }
}
