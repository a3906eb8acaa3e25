//! The account of a run: for a reader, or as JSON lines.

use std::fmt;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::stack::Stack;

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
    /// Every hop in the order in which the request met them, and the milliseconds it took without
    /// those behind it.
    pub(super) hops: Vec<(&'static str, f64)>,
}

impl Timing {
    /// Takes the `Server-Timing` header of an answer apart, <https://www.w3.org/TR/server-timing/>.
    /// The front door says how long it took in all, the hops behind it how long each of them took;
    /// the gateway took the rest.
    pub(super) fn new(total: Duration, server_timing: &str) -> Self {
        let told = |hop: &str| {
            server_timing.split(',').find_map(|metric| {
                let mut fields = metric.split(';').map(str::trim);
                (fields.next() == Some(hop)).then_some(())?;
                fields
                    .find_map(|field| field.strip_prefix("dur="))?
                    .parse::<f64>()
                    .ok()
            })
        };
        let behind: Vec<_> = BEHIND
            .iter()
            .filter_map(|hop| Some((*hop, told(hop)?)))
            .collect();
        let front_door = told(FRONT_DOOR);
        let mut hops = vec![(
            GATEWAY,
            milliseconds(total) - front_door.unwrap_or_default(),
        )];
        hops.extend(front_door.map(|all| {
            (
                FRONT_DOOR,
                all - behind.iter().map(|(_, took)| took).sum::<f64>(),
            )
        }));
        hops.extend(behind);
        // Clocks of several processes: a difference of almost nothing may come out negative.
        Self {
            total,
            hops: hops
                .into_iter()
                .map(|(hop, took)| (hop, took.max(0.0)))
                .collect(),
        }
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
        let (signer, generator) = (stack.measurements().signer, stack.measurements().generator);
        let enclaves = if stack.images().is_some() {
            "images in an emulator"
        } else {
            "processes"
        };
        match self.format {
            Format::Text => line(format_args!(
                "The stack answers at {endpoint} after {seconds:.1} s; its enclaves are {enclaves}, PCR0\n  \
                 signer        {signer}\n  key generator {generator}"
            )),
            Format::Json => line(json!({
                "stack": endpoint, "seconds": rounded(seconds), "enclaves": enclaves,
                "signer_pcr0": signer.to_string(), "key_generator_pcr0": generator.to_string(),
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

    /// Something was seen to hold.
    pub(super) fn held(&mut self, what: &str, timing: Option<&Timing>) {
        self.held += 1;
        match self.format {
            Format::Text => match timing {
                Some(timing) => line(format_args!("  ✓ {what:<WIDTH$} {}", text(timing))),
                None => line(format_args!("  ✓ {what}")),
            },
            Format::Json => {
                let mut object = json!({ "chapter": self.chapter, "title": self.title, "check": what, "held": true });
                if let Some(timing) = timing {
                    let hops: Map<String, Value> = timing
                        .hops
                        .iter()
                        .map(|(hop, took)| ((*hop).to_owned(), json!(rounded(*took))))
                        .collect();
                    object["total_ms"] = json!(rounded(milliseconds(timing.total)));
                    object["hops_ms"] = hops.into();
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
            (Format::Text, Some(failure)) => {
                line(format_args!("  ✗ {failure:#}\n\nNot every step held"))
            }
            (Format::Json, None) => {
                line(json!({ "held": true, "checks": self.held, "seconds": rounded(seconds) }))
            }
            (Format::Json, Some(failure)) => line(json!({
                "held": false, "chapter": self.chapter, "title": self.title, "failure": format!("{failure:#}"),
            })),
        }
    }
}

fn text(timing: &Timing) -> String {
    let hops: Vec<_> = timing
        .hops
        .iter()
        .map(|(hop, took)| format!("{hop} {took:.1}"))
        .collect();
    format!(
        "{:>7.1} ms   {}",
        milliseconds(timing.total),
        hops.join(" · ")
    )
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A reader that went away is no reason to fail.
fn line(text: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

const WIDTH: usize = 60;
const GATEWAY: &str = "gateway";
const FRONT_DOOR: &str = "front-door";
const BEHIND: [&str; 3] = ["pod", "storage", "enclave"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hop_has_its_own_time() {
        let timing = Timing::new(
            Duration::from_millis(10),
            "pod;dur=0.5, storage;desc=\"x\";dur=3, enclave;dur=1, front-door;dur=8",
        );
        assert_eq!(
            text(&timing),
            "   10.0 ms   gateway 2.0 · front-door 3.5 · pod 0.5 · storage 3.0 · enclave 1.0"
        );
        let refused_early = Timing::new(Duration::from_millis(1), "front-door;dur=0.25");
        assert_eq!(
            text(&refused_early),
            "    1.0 ms   gateway 0.8 · front-door 0.2"
        );
        assert_eq!(
            text(&Timing::new(Duration::from_millis(1), "")),
            "    1.0 ms   gateway 1.0"
        );
    }
}
