//! Copies the enclave's log and console into the pod's own log.

use std::io;
use std::time::{Duration, SystemTime};

use cloister_contract::enclave_log::{ApplicationLine, End, InitEvent, InitLine, Level};
use cloister_contract::{ErrorChain, events};
use cloister_transport::{Address, Stream};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::time::{sleep, timeout};

use crate::enclave::driver::Console;
use crate::enclave::metrics::Dimensions;

/// Copies the lines of the enclave's log, including those written before the connection, until it
/// ends; usage records become metrics. Returns the cause of the enclave's end if the last line has
/// one.
pub(crate) async fn follow(address: &Address, metrics: Option<&Dimensions>) -> Option<End> {
    let stream = loop {
        match timeout(CONNECT_DEADLINE, Stream::connect(address)).await {
            Ok(Ok(stream)) => break stream,
            Ok(Err(error)) => {
                tracing::debug!(%address, error = %ErrorChain(&error), "no log of the enclave yet");
            }
            Err(_) => {}
        }
        sleep(CONNECT_DELAY).await;
    };
    let mut end = None;
    let read = each_line(stream, |text| {
        let line = Line::parse(text);
        match (&line, metrics) {
            (Line::Init(InitEvent::Usage(usage), _), Some(metrics)) => {
                metrics.write(&mut io::stdout(), SystemTime::now(), *usage);
            }
            _ => line.copy(text),
        }
        end = line.end();
    })
    .await;
    if let Err(error) = read {
        tracing::debug!(error = %ErrorChain(&error), "the connection of the enclave's log was lost");
    }
    end
}

/// Copies the lines of the enclave's console until it ends.
pub(crate) async fn follow_console(console: Console) {
    // A read error counts as the end of the stream.
    let _ = each_line(
        console,
        |line| tracing::info!(target: TARGET, console = line),
    )
    .await;
}

/// Calls `take` with each line, without its end; a line that is too long is cut.
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
        // After a piece without a line end, the next piece belongs to the same line.
        let begins = std::mem::replace(&mut whole, bytes.ends_with(b"\n"));
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end();
        if begins && !line.is_empty() {
            take(line);
        }
    }
}

/// A line of the enclave's log.
#[derive(Debug)]
enum Line {
    Init(InitEvent, Level),
    /// Of the application. Panic messages and other text have neither level nor event.
    Application {
        level: Option<Level>,
        event: Option<&'static str>,
    },
}

impl Line {
    fn parse(text: &str) -> Self {
        if let Ok(InitLine { event, level, .. }) = serde_json::from_str(text) {
            return Self::Init(event, level);
        }
        let line: ApplicationLine<'_> = serde_json::from_str(text).unwrap_or_default();
        Self::Application {
            level: line.level,
            event: line.event.and_then(|name| events::find(&name)),
        }
    }

    /// Copies the line, at its own level and with its own event.
    fn copy(&self, text: &str) {
        let (level, event) = match self {
            Self::Init(InitEvent::Usage(_), _) => (Some(Level::Debug), Some(events::USAGE)),
            Self::Init(event, level) => (Some(*level), Some(event.name())),
            Self::Application { level, event } => (*level, *event),
        };
        // The level of an event is fixed at its call site.
        match level {
            Some(Level::Error) => tracing::error!(target: TARGET, event, enclave = text),
            Some(Level::Warn) => tracing::warn!(target: TARGET, event, enclave = text),
            Some(Level::Debug) => tracing::debug!(target: TARGET, event, enclave = text),
            Some(Level::Trace) => tracing::trace!(target: TARGET, event, enclave = text),
            Some(Level::Info) | None => tracing::info!(target: TARGET, event, enclave = text),
        }
    }

    fn end(self) -> Option<End> {
        match self {
            Self::Init(InitEvent::EnclaveEnded(end), _) => Some(end),
            _ => None,
        }
    }
}

/// Target of copied lines.
const TARGET: &str = "cloister_enclave";
/// Longest line that is copied whole, in bytes.
const MAX_LINE_LEN: u64 = 8 * 1024;
/// Timeout for connecting to an enclave of the same machine.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Delay before the next attempt to connect.
const CONNECT_DELAY: Duration = Duration::from_millis(200);

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
    fn only_a_line_of_init_ends_the_enclave() {
        let end = End::BootFailed {
            error: "no \"nsm\"".into(),
        };
        let line = InitLine::new(String::new(), InitEvent::EnclaveEnded(end.clone()));
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(Line::parse(&text).end(), Some(end));
        for other in [
            text.replace("cloister_init", "cloister_signer"),
            text.replace("boot_failed", "other"),
            text.replace(r#""event":"enclave_ended","#, ""),
            "thread 'main' panicked".to_owned(),
        ] {
            assert_eq!(Line::parse(&other).end(), None, "{other}");
        }
    }

    #[test]
    fn unknown_events_of_an_application_are_not_copied() {
        for (line, expected) in [
            (
                r#"{"level":"WARN","event":"cmk_not_adopted"}"#,
                Some(events::CMK_NOT_ADOPTED),
            ),
            (r#"{"level":"WARN","event":"other"}"#, None),
            (r#"{"level":"LOUD","event":"cmk_not_adopted"}"#, None),
            ("text", None),
        ] {
            let Line::Application { event, .. } = Line::parse(line) else {
                panic!("{line}");
            };
            assert_eq!(event, expected, "{line}");
        }
    }
}
