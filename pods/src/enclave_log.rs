//! What the enclave says, in the pod's own log.

use std::borrow::Cow;
use std::io;
use std::time::{Duration, SystemTime};

use cloister_transport::{Address, Stream};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::time::{sleep, timeout};

use crate::Console;
use crate::metrics::{Dimensions, Usage};

/// Writes the lines of the enclave's log, those that it wrote before included, until it ends; what
/// it says of its usage, as metrics. Returns why the enclave ends, if that was its last word.
pub(crate) async fn follow(address: &Address, metrics: Option<&Dimensions>) -> Option<String> {
    let stream = loop {
        match timeout(CONNECT_DEADLINE, Stream::connect(address)).await {
            Ok(Ok(stream)) => break stream,
            Ok(Err(error)) => tracing::debug!(%address, %error, "no log of the enclave yet"),
            Err(_) => {}
        }
        sleep(CONNECT_PAUSE).await;
    };
    let mut reason = None;
    let ended = each_line(stream, |line| {
        let record = Record::of(line);
        match (record.usage(line), metrics) {
            (Some(usage), Some(metrics)) => {
                metrics.write(&mut io::stdout(), SystemTime::now(), usage)
            }
            (Some(_), None) => write(Some("DEBUG"), line),
            (None, _) => write(record.level.as_deref(), line),
        }
        reason = record.end();
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "the enclave's log broke off");
    }
    reason
}

/// Writes the lines of the enclave's console until it ends.
pub(crate) async fn follow_console(console: Console) {
    // An error is an end like any other.
    let _ = each_line(
        console,
        |line| tracing::info!(target: TARGET, console = line),
    )
    .await;
}

/// Hands out each line, without its end; of a line that is too long, only the beginning.
async fn each_line(stream: impl AsyncRead + Unpin, mut take: impl FnMut(&str)) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut bytes = Vec::new();
    let mut whole = true;
    loop {
        bytes.clear();
        if (&mut stream)
            .take(MAX_LINE_LEN)
            .read_until(b'\n', &mut bytes)
            .await?
            == 0
        {
            return Ok(());
        }
        // What follows a piece without end is the rest of the same line.
        let begins = std::mem::replace(&mut whole, bytes.ends_with(b"\n"));
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end();
        if begins && !line.is_empty() {
            take(line);
        }
    }
}

/// The level of an event is fixed where it is written.
fn write(level: Option<&str>, line: &str) {
    match level {
        Some("ERROR") => tracing::error!(target: TARGET, enclave = line),
        Some("WARN") => tracing::warn!(target: TARGET, enclave = line),
        Some("DEBUG") => tracing::debug!(target: TARGET, enclave = line),
        Some("TRACE") => tracing::trace!(target: TARGET, enclave = line),
        _ => tracing::info!(target: TARGET, enclave = line),
    }
}

/// What of a line concerns the pod; a line of another form has nothing of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Record<'a> {
    #[serde(borrow)]
    level: Option<Cow<'a, str>>,
    #[serde(borrow)]
    target: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    status: Option<i64>,
    signal: Option<i64>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
}

impl<'a> Record<'a> {
    fn of(line: &'a str) -> Self {
        serde_json::from_str(line).unwrap_or_default()
    }

    /// Not its application's.
    fn is_inits(&self) -> bool {
        self.target.as_deref() == Some("cloister_init")
    }

    /// How busy the enclave is: the word of its init, as is the next.
    fn usage(&self, line: &str) -> Option<Usage> {
        let told = self.is_inits() && self.message.as_deref() == Some("usage");
        told.then(|| serde_json::from_str(line).ok()).flatten()
    }

    /// Why the enclave ends.
    fn end(&self) -> Option<String> {
        if !self.is_inits() {
            return None;
        }
        let mut end = self.reason.as_deref()?.to_owned();
        let number = |name, value: Option<i64>| value.map(|value| format!(" ({name} {value})"));
        let details = [
            number("status", self.status),
            number("signal", self.signal),
            self.error.as_ref().map(|e| format!(" ({e})")),
        ];
        end.extend(details.into_iter().flatten());
        Some(end)
    }
}

/// Of the events that are lines of an enclave.
const TARGET: &str = "cloister_enclave";
/// Longest line that is written whole, in bytes.
const MAX_LINE_LEN: u64 = 8 * 1024;
/// Time to connect to the enclave on the same machine.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Pause before connecting is tried again.
const CONNECT_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        each_line(text, |line| lines.push(line.to_owned()))
            .await
            .unwrap();
        lines
    }

    #[tokio::test]
    async fn lines_are_bounded_and_need_not_be_text() {
        let longest = usize::try_from(MAX_LINE_LEN).unwrap();
        let long = "x".repeat(3 * longest + 5);
        let text = format!("one\n\ntwo\r\n{long}\nthree\n{}", "y".repeat(10));
        assert_eq!(
            lines(text.as_bytes()).await,
            ["one", "two", &long[..longest], "three", "yyyyyyyyyy"]
        );
        let exact = format!("{}\nnext\n", "x".repeat(longest - 1));
        assert_eq!(
            lines(exact.as_bytes()).await,
            [&exact[..longest - 1], "next"]
        );
        assert_eq!(lines(b"\xff\xfe\n").await, ["\u{fffd}\u{fffd}"]);
        assert!(lines(b"").await.is_empty());
    }

    #[test]
    fn the_reason_of_an_end_is_the_word_of_init() {
        for (line, reason) in [
            (
                r#"{"target":"cloister_init","message":"the enclave ends","reason":"application_exited","status":101}"#,
                Some("application_exited (status 101)"),
            ),
            (
                r#"{"target":"cloister_init","message":"the enclave ends","reason":"application_killed","signal":9}"#,
                Some("application_killed (signal 9)"),
            ),
            (
                r#"{"target":"cloister_init","message":"the enclave ends","reason":"application_sandbox"}"#,
                Some("application_sandbox"),
            ),
            (
                r#"{"target":"cloister_init","message":"the enclave ends","reason":"boot_failed","error":"no \"nsm\""}"#,
                Some("boot_failed (no \"nsm\")"),
            ),
            (
                r#"{"target":"cloister_init","level":"INFO","message":"booted"}"#,
                None,
            ),
            (
                r#"{"target":"cloister_signer","reason":"application_exited"}"#,
                None,
            ),
            (r#"{"target":"cloister_init","reason":7}"#, None),
            ("thread 'main' panicked", None),
        ] {
            assert_eq!(Record::of(line).end().as_deref(), reason, "{line}");
        }
    }

    #[test]
    fn usage_is_the_word_of_init() {
        let line = |target: &str, message: &str| {
            format!(
                r#"{{"target":"{target}","message":"{message}","cpu_user_percent":1.5,"cpu_system_percent":0.0,"memory_used_percent":20.0,"memory_cached_percent":3.0}}"#
            )
        };
        for (line, told) in [
            (line("cloister_init", "usage"), true),
            (line("cloister_signer", "usage"), false),
            (line("cloister_init", "other"), false),
            (
                r#"{"target":"cloister_init","message":"usage"}"#.to_owned(),
                false,
            ),
        ] {
            assert_eq!(Record::of(&line).usage(&line).is_some(), told, "{line}");
        }
    }
}
