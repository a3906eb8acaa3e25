//! The log: lines of the application and of init, in a bounded memory, for whoever connects.

use std::collections::{BTreeSet, VecDeque};
use std::error::Error;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Value, json};
use vsock::{VsockListener, VsockStream};

/// All lines so far, as many as fit. Clones are the same log.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Arc<[u8]>>,
    /// How many lines came before the first of `lines`.
    forgotten: u64,
    /// The sum of the lengths of `lines`.
    len: usize,
    ended: bool,
    /// Those who connected and are still being written to, oldest first.
    connected: BTreeSet<u64>,
    connections: u64,
    /// Those who are being written to: the connected and the console.
    readers: usize,
    /// Somebody who connected has the last line.
    delivered: bool,
}

impl Log {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a line, given without its end. After the last line there is no other.
    pub fn push(&self, line: &[u8]) {
        self.append(line, false);
    }

    /// Appends a line of init's own.
    pub(crate) fn info(&self, message: &str, fields: Value) {
        self.push(&line("INFO", message, fields));
    }

    /// Appends a line of init's own about something that should not be.
    pub(crate) fn warn(&self, message: &str, fields: Value) {
        self.push(&line("WARN", message, fields));
    }

    /// Appends the last line.
    pub(crate) fn end(&self, end: &End) {
        self.append(&line("ERROR", "the enclave ends", json!(end)), true);
    }

    fn append(&self, line: &[u8], last: bool) {
        let mut state = self.state();
        if state.ended {
            return;
        }
        state.ended = last;
        let line: Arc<[u8]> = [line, b"\n"].concat().into();
        state.len += line.len();
        state.lines.push_back(line);
        while state.len > MAX_LEN {
            state.len -= state.lines.pop_front().map_or(0, |oldest| oldest.len());
            state.forgotten += 1;
        }
        self.0.changed.notify_all();
    }

    /// Writes every line there is and then every one that comes, up to and including the last.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn copy_to(&self, out: &mut impl Write) -> io::Result<()> {
        self.copy(out, |_| true).map(drop)
    }

    /// Whether the last line was written: not if `wanted` ended it before.
    fn copy(&self, out: &mut impl Write, wanted: impl Fn(&State) -> bool) -> io::Result<bool> {
        let mut next = 0;
        loop {
            let mut state = self.state();
            while wanted(&state) && !state.ended && next == state.written() {
                state = self
                    .0
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if !wanted(&state) {
                return Ok(false);
            }
            let missed = state.forgotten.saturating_sub(next);
            next += missed;
            let seen = usize::try_from(next - state.forgotten).unwrap_or(usize::MAX);
            let lines: Vec<_> = state.lines.iter().skip(seen).cloned().collect();
            next = state.written();
            let last = state.ended;
            // The others go on while this one is slow.
            drop(state);
            if missed > 0 {
                let gap = line("WARN", "lines are missing", json!({ "lines": missed }));
                out.write_all(&[&gap, &b"\n"[..]].concat())?;
            }
            out.write_all(&lines.concat())?;
            if last {
                return out.flush().map(|()| true);
            }
        }
    }

    /// Writes the log to everybody who connects; the oldest connection makes room for one too many.
    pub(crate) fn serve(&self, listener: VsockListener) {
        let log = self.clone();
        thread::spawn(move || {
            loop {
                // A connection that died before it was accepted is no reason to stop.
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(ACCEPT_PAUSE);
                    continue;
                };
                let log = log.clone();
                thread::spawn(move || log.write_to_peer(stream));
            }
        });
    }

    fn write_to_peer(&self, mut stream: VsockStream) {
        let reader = Reader::new(self, true);
        let wanted = |state: &State| state.connected.contains(&reader.connection);
        let written = stream
            .set_write_timeout(Some(PEER_DEADLINE))
            .and_then(|()| self.copy(&mut stream, wanted));
        if written.is_ok_and(|last| last) {
            // The machine must not stop before the peer has the last line: that shows when the peer
            // ends the connection as well. Not every hypervisor tells it of an end, so that after a
            // while the line counts as read.
            let _ = stream
                .set_read_timeout(Some(ACKNOWLEDGEMENT))
                .and_then(|()| stream.shutdown(Shutdown::Write));
            let _ = io::copy(&mut stream, &mut io::sink());
            self.state().delivered = true;
        }
    }

    /// Writes the log to the kernel's console.
    pub(crate) fn follow_on_console(&self) {
        let log = self.clone();
        let reader = Reader::new(self, false);
        thread::spawn(move || {
            let _reader = reader;
            OpenOptions::new()
                .write(true)
                .open(CONSOLE)
                .and_then(|mut console| log.copy_to(&mut console))
        });
    }

    /// Waits until somebody who connected has the last line and nobody is still being written to.
    pub(crate) fn wait_until_read(&self, deadline: Duration) {
        let pending = |state: &mut State| state.readers > 0 || !state.delivered;
        drop(
            self.0
                .changed
                .wait_timeout_while(self.state(), deadline, pending),
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn written(&self) -> u64 {
        self.forgotten + u64::try_from(self.lines.len()).unwrap_or(u64::MAX)
    }
}

/// Somebody who is being written to, for as long as this lives.
#[derive(Debug)]
struct Reader {
    log: Log,
    connection: u64,
}

impl Reader {
    fn new(log: &Log, connected: bool) -> Self {
        let mut state = log.state();
        state.readers += 1;
        state.connections += 1;
        let connection = state.connections;
        if connected {
            state.connected.insert(connection);
        }
        while state.connected.len() > MAX_CONNECTIONS {
            state.connected.pop_first();
        }
        log.0.changed.notify_all();
        Self {
            log: log.clone(),
            connection,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.log.state();
        state.readers -= 1;
        state.connected.remove(&self.connection);
        self.log.0.changed.notify_all();
    }
}

/// Why an enclave ends: the last line's `reason`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    /// The application ended by itself.
    ApplicationExited {
        /// Its exit status.
        status: i32,
    },
    /// A signal ended the application: it crashed, or memory ran out.
    ApplicationKilled {
        /// The signal's number.
        signal: i32,
    },
    /// The application made a system call that it has no business making.
    ApplicationSandbox,
    /// The application was never started.
    BootFailed {
        /// Why.
        error: String,
    },
    /// The application's volume cannot be reached any more, whatever the parent does.
    VolumeFailed {
        /// Why.
        error: String,
    },
    /// Init cannot go on.
    InitFailed {
        /// Why.
        error: String,
    },
}

/// Writes one line about an error to a stream.
pub fn say(out: &mut impl Write, message: &str, error: &dyn Error) {
    // There is nobody to tell that nobody can be told.
    let _ = out.write_all(
        &[
            &line("ERROR", message, json!({ "error": chain(error) })),
            &b"\n"[..],
        ]
        .concat(),
    );
}

/// An error and everything that led to it.
pub(crate) fn chain(error: &dyn Error) -> String {
    let sources = std::iter::successors(error.source(), |&error| error.source());
    sources.fold(error.to_string(), |text, source| {
        format!("{text}: {source}")
    })
}

/// A line in the form of the application's own.
fn line(level: &str, message: &str, fields: Value) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        timestamp: String,
        level: &'a str,
        target: &'a str,
        message: &'a str,
        #[serde(flatten)]
        fields: Value,
    }
    let timestamp = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let line = Line {
        timestamp,
        level,
        target: "cloister_init",
        message,
        fields,
    };
    serde_json::to_vec(&line).expect("strings and numbers can be written as JSON")
}

/// In bytes, including the end of the line that the reader does not see.
pub(crate) const MAX_LINE_LEN: u64 = 8 * 1024;
/// In bytes, of all lines that are kept.
const MAX_LEN: usize = 256 * 1024;
/// At once.
const MAX_CONNECTIONS: usize = 8;
/// For a peer that does not read.
const PEER_DEADLINE: Duration = Duration::from_secs(4);
/// For a peer that has the last line and does not know that it is the last.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const CONSOLE: &str = "/dev/console";

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc;

    use super::*;

    fn text(log: &Log) -> String {
        let mut out = Vec::new();
        log.copy_to(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn last(end: &End) -> Value {
        let log = Log::new();
        log.end(end);
        let mut line: Value = serde_json::from_str(&text(&log)).unwrap();
        let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
        humantime::parse_rfc3339(timestamp.as_str().unwrap()).unwrap();
        line
    }

    #[test]
    fn the_last_line_says_why() {
        for (end, fields) in [
            (
                End::ApplicationExited { status: 3 },
                json!({ "reason": "application_exited", "status": 3 }),
            ),
            (
                End::ApplicationKilled { signal: 6 },
                json!({ "reason": "application_killed", "signal": 6 }),
            ),
            (
                End::ApplicationSandbox,
                json!({ "reason": "application_sandbox" }),
            ),
            (
                End::BootFailed { error: "e".into() },
                json!({ "reason": "boot_failed", "error": "e" }),
            ),
            (
                End::InitFailed { error: "e".into() },
                json!({ "reason": "init_failed", "error": "e" }),
            ),
        ] {
            let mut expected = json!({ "level": "ERROR", "target": "cloister_init", "message": "the enclave ends" });
            expected
                .as_object_mut()
                .unwrap()
                .append(&mut fields.as_object().unwrap().clone());
            assert_eq!(last(&end), expected);
        }
    }

    #[test]
    fn nothing_follows_the_last_line() {
        let log = Log::new();
        log.push(b"first");
        log.end(&End::ApplicationSandbox);
        log.push(b"late");
        log.end(&End::ApplicationExited { status: 0 });
        let text = text(&log);
        assert!(text.starts_with("first\n"), "{text}");
        assert!(
            text.ends_with("\"reason\":\"application_sandbox\"}\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn the_oldest_lines_make_room_and_readers_learn_how_many() {
        let log = Log::new();
        for number in 0..10_000 {
            log.push(format!("{number:099}").as_bytes());
        }
        log.end(&End::ApplicationSandbox);
        let text = text(&log);
        let mut lines = text.lines();
        let gap: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        let missing = gap["lines"].as_u64().unwrap();
        assert_eq!(gap["message"], "lines are missing");
        assert_eq!(lines.next().unwrap().parse::<u64>().unwrap(), missing);
        assert_eq!(lines.count() as u64, 10_000 - missing);
        assert!(
            (MAX_LEN - 100 * 3..MAX_LEN).contains(&(text.len() - gap.to_string().len())),
            "{}",
            text.len()
        );
    }

    #[test]
    fn a_reader_follows() {
        let log = Log::new();
        log.push(b"before");
        let (mut theirs, mut ours) = std::os::unix::net::UnixStream::pair().unwrap();
        let follower = log.clone();
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || done.send(follower.copy_to(&mut theirs)));
        let mut seen = [0; 7];
        ours.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"before\n");
        log.push(b"after!");
        ours.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"after!\n");
        log.end(&End::ApplicationSandbox);
        is_done.recv().unwrap().unwrap();
    }

    #[test]
    fn the_oldest_connection_makes_room_for_one_too_many() {
        let log = Log::new();
        let readers: Vec<_> = (0..=MAX_CONNECTIONS)
            .map(|_| Reader::new(&log, true))
            .collect();
        let console = Reader::new(&log, false);
        let connected = log.state().connected.clone();
        assert!(
            !connected.contains(&readers[0].connection) && !connected.contains(&console.connection)
        );
        assert_eq!(connected.len(), MAX_CONNECTIONS);
        let wanted = |state: &State| state.connected.contains(&readers[0].connection);
        assert!(!log.copy(&mut io::sink(), wanted).unwrap());
        drop((readers, console));
        assert_eq!(log.state().readers, 0);
    }

    #[test]
    fn the_end_does_not_wait_longer_than_told() {
        let log = Log::new();
        log.end(&End::ApplicationSandbox);
        let _stuck = Reader::new(&log, false);
        log.wait_until_read(Duration::from_millis(1));
    }
}
