//! The bounded buffer of log lines, and its readers.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloister_contract::enclave_log::{End, InitEvent};

use super::line::line;

/// The most recent lines, up to [`MAX_LEN`] bytes. Clones share the buffer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Arc<[u8]>>,
    /// Number of dropped lines, older than the first of `lines`.
    forgotten: u64,
    /// The sum of the lengths of `lines`.
    len: usize,
    ended: bool,
    /// Number of open connections.
    connections: usize,
    /// Number of active readers: the connections and the console.
    readers: usize,
    /// A connected reader has received the last line.
    delivered: bool,
}

impl Log {
    /// An empty log.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Appends a line, given without its end. Ignored after the last line.
    pub(crate) fn push(&self, line: &[u8]) {
        self.append(line, false);
    }

    /// Appends a line of init.
    pub(crate) fn event(&self, event: InitEvent) {
        self.append(&line(event), false);
    }

    /// Appends the last line.
    pub(crate) fn end(&self, end: End) {
        self.append(&line(InitEvent::EnclaveEnded(end)), true);
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

    /// Writes the buffered lines and then follows, up to and including the last line.
    ///
    /// # Errors
    /// Those of `out`.
    pub(crate) fn copy_to(&self, out: &mut impl Write) -> io::Result<()> {
        let mut next = 0;
        loop {
            let mut state = self.state();
            while !state.ended && next == state.written() {
                state = self
                    .0
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let missed = state.forgotten.saturating_sub(next);
            next += missed;
            let seen = usize::try_from(next - state.forgotten).unwrap_or(usize::MAX);
            let lines: Vec<_> = state.lines.iter().skip(seen).cloned().collect();
            next = state.written();
            let last = state.ended;
            // A slow reader must not block the others.
            drop(state);
            if missed > 0 {
                let gap = line(InitEvent::LinesMissing { lines: missed });
                out.write_all(&[&gap, &b"\n"[..]].concat())?;
            }
            out.write_all(&lines.concat())?;
            if last {
                return out.flush();
            }
        }
    }

    /// Waits until a connected reader has the last line and no reader is still being written to.
    pub(crate) fn wait_until_read(&self, deadline: Duration) {
        let pending = |state: &mut State| state.readers > 0 || !state.delivered;
        drop(
            self.0
                .changed
                .wait_timeout_while(self.state(), deadline, pending),
        );
    }

    #[cfg(test)]
    pub(crate) fn lines(&self) -> Vec<Vec<u8>> {
        self.state()
            .lines
            .iter()
            .map(|line| line.to_vec())
            .collect()
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

/// Registers a reader until it is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    log: Log,
    connected: bool,
}

impl Reader {
    /// A connection; `None` if as many as there may be are open.
    pub(super) fn connected(log: &Log) -> Option<Self> {
        let mut state = log.state();
        if state.connections == MAX_CONNECTIONS {
            return None;
        }
        state.connections += 1;
        state.readers += 1;
        Some(Self {
            log: log.clone(),
            connected: true,
        })
    }

    /// The console.
    pub(super) fn console(log: &Log) -> Self {
        log.state().readers += 1;
        Self {
            log: log.clone(),
            connected: false,
        }
    }

    /// Writes the log up to its end.
    ///
    /// # Errors
    /// Those of `out`.
    pub(super) fn copy_to(&self, out: &mut impl Write) -> io::Result<()> {
        self.log.copy_to(out)
    }

    /// Marks the last line as received.
    pub(super) fn delivered(&self) {
        self.log.state().delivered = true;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.log.state();
        state.readers -= 1;
        if self.connected {
            state.connections -= 1;
        }
        self.log.0.changed.notify_all();
    }
}

/// In bytes, of all buffered lines.
const MAX_LEN: usize = 256 * 1024;
/// At once: the pod's, and a few of whoever looks for a fault.
const MAX_CONNECTIONS: usize = 8;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc;
    use std::thread;

    use serde_json::Value;

    use super::*;

    fn text(log: &Log) -> String {
        let mut out = Vec::new();
        log.copy_to(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_follows_the_last_line() {
        let log = Log::new();
        log.push(b"first");
        log.end(End::ApplicationSandbox);
        log.push(b"late");
        log.end(End::ApplicationExited { status: 0 });
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
        log.end(End::ApplicationSandbox);
        let text = text(&log);
        let mut lines = text.lines();
        let gap: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        let missing = gap["lines"].as_u64().unwrap();
        assert_eq!(gap["event"], "lines_missing");
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
        log.end(End::ApplicationSandbox);
        is_done.recv().unwrap().unwrap();
    }

    #[test]
    fn the_first_connections_are_served_and_no_later_one_displaces_them() {
        let log = Log::new();
        let mut readers: Vec<_> = (0..MAX_CONNECTIONS)
            .map(|_| Reader::connected(&log).unwrap())
            .collect();
        let console = Reader::console(&log);
        assert!((0..100).all(|_| Reader::connected(&log).is_none()));
        log.push(b"a line");
        log.end(End::ApplicationSandbox);
        let mut text = Vec::new();
        readers[0].copy_to(&mut text).unwrap();
        assert!(text.starts_with(b"a line\n"));
        readers.pop();
        readers.push(Reader::connected(&log).expect("one that left makes room"));
        drop((readers, console));
        let state = log.state();
        assert_eq!((state.readers, state.connections), (0, 0));
    }

    #[test]
    fn the_end_does_not_wait_longer_than_told() {
        let log = Log::new();
        log.end(End::ApplicationSandbox);
        let _stuck = Reader::console(&log);
        log.wait_until_read(Duration::from_millis(1));
    }
}
