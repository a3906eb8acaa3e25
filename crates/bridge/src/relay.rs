//! Passes bytes between two connections.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Counters;

/// Ends of a relayed connection.
#[derive(Debug)]
pub(crate) enum End {
    /// Both sides closed their direction.
    Closed,
    /// One side stopped reading while it still had something to say; what it said has arrived.
    Unread(io::Error),
    /// One side broke off. The other should not take this for an ordinary end.
    Broken(io::Error),
    /// Nothing passed for too long.
    Idle,
}

/// Passes bytes both ways until both directions have ended, passing each end on as it comes. `near`
/// is the side that asked for the connection: what it sends counts as sent.
///
/// A waiting connection holds no buffer: bytes are read into one that all connections of a thread
/// share, and only what the other side does not take at once is kept. So `near` and `far` must be
/// sockets: nothing is flushed.
pub(crate) async fn relay<N, F>(
    near: &mut N,
    far: &mut F,
    counters: &Counters,
    idle: Option<Duration>,
) -> End
where
    N: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin,
{
    let (mut there, mut back) = (
        Direction::new(counters.sent()),
        Direction::new(counters.received()),
    );
    let mut patience = idle.map(Patience::new);
    let mut turn = false;
    poll_fn(|cx| {
        // A busy direction may use up what the runtime allows this task at once: the other one
        // comes first next time.
        turn = !turn;
        let (mut one, mut other) = (Poll::Pending, Poll::Pending);
        for is_there in [turn, !turn] {
            if is_there {
                one = there.poll(cx, near, far, back.unread.as_ref())?;
            } else {
                other = back.poll(cx, far, near, there.unread.as_ref())?;
            }
        }
        if let (Poll::Ready(()), Poll::Ready(())) = (one, other) {
            let unread = there.unread.take().or(back.unread.take());
            return Poll::Ready(Ok(unread.map_or(End::Closed, End::Unread)));
        }
        match &mut patience {
            Some(patience) => patience
                .poll(cx, there.passed + back.passed)
                .map(|()| Ok(End::Idle)),
            None => Poll::Pending,
        }
    })
    .await
    .unwrap_or_else(End::Broken)
}

/// One direction of a connection.
#[derive(Debug)]
struct Direction<'a> {
    /// Bytes that were read and could not be written yet.
    rest: Vec<u8>,
    written: usize,
    state: State,
    unread: Option<io::Error>,
    passed: u64,
    count: &'a AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Passing,
    Closing,
    Ended,
}

impl<'a> Direction<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        Self {
            rest: Vec::new(),
            written: 0,
            state: State::Passing,
            unread: None,
            passed: 0,
            count,
        }
    }

    /// Passes what can be passed now. Ready when this direction has ended; an error when `from`
    /// broke off. `unread` is the error with which writing to `from` failed, if any.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        unread: Option<&io::Error>,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.state {
                State::Passing => match ready!(self.poll_pass(cx, from, to)) {
                    Ok(true) => {}
                    // A reset is told once, by whichever call comes first; afterwards it reads like
                    // an ordinary end.
                    Ok(false) => match unread.map(io::Error::kind) {
                        Some(io::ErrorKind::ConnectionReset) => {
                            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                        }
                        _ => self.state = State::Closing,
                    },
                    // A path or vsock port that was closed unread says so here once more, after all
                    // it had to say.
                    Err(Failure::Read(_))
                        if unread
                            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
                    {
                        self.state = State::Closing;
                    }
                    Err(Failure::Read(error)) => return Poll::Ready(Err(error)),
                    Err(Failure::Write(error)) => {
                        // `to` may have answered before it had read everything, as HTTP servers do:
                        // the other direction goes on.
                        self.unread = Some(error);
                        self.rest = Vec::new();
                        self.state = State::Ended;
                    }
                },
                State::Closing => {
                    // If `to` is gone, the other direction notices.
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes what is left from before, or else passes what one read gives: false at the end of
    /// `from`.
    fn poll_pass<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<bool, Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            let (written, outcome) = write(cx, to, &rest[self.written..]);
            self.wrote(written);
            self.written += written;
            if self.written < rest.len() {
                self.rest = rest;
            }
            ready!(outcome).map_err(Failure::Write)?;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(from).poll_read(cx, &mut read)).map_err(Failure::Read)?;
            let read = read.filled();
            if read.is_empty() {
                return Poll::Ready(Ok(false));
            }
            let (written, outcome) = write(cx, to, read);
            self.wrote(written);
            if outcome.is_pending() {
                self.rest = read[written..].to_vec();
                self.written = 0;
            }
            outcome.map_ok(|()| true).map_err(Failure::Write)
        })
    }

    fn wrote(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.passed += bytes;
        self.count.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The connection that failed.
#[derive(Debug)]
enum Failure {
    Read(io::Error),
    Write(io::Error),
}

/// Writes as much as `to` takes: the number of bytes, and ready when these are all.
fn write<W: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    to: &mut W,
    bytes: &[u8],
) -> (usize, Poll<io::Result<()>>) {
    let mut written = 0;
    while written < bytes.len() {
        match Pin::new(&mut *to).poll_write(cx, &bytes[written..]) {
            Poll::Ready(Ok(0)) => {
                return (written, Poll::Ready(Err(io::ErrorKind::WriteZero.into())));
            }
            Poll::Ready(Ok(more)) => written += more,
            Poll::Ready(Err(error)) => return (written, Poll::Ready(Err(error))),
            Poll::Pending => return (written, Poll::Pending),
        }
    }
    (written, Poll::Ready(Ok(())))
}

/// Ends when nothing has passed for a while.
#[derive(Debug)]
struct Patience {
    idle: Duration,
    passed: u64,
    since: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Patience {
    fn new(idle: Duration) -> Self {
        let since = Instant::now();
        Self {
            idle,
            passed: 0,
            since,
            sleep: Box::pin(sleep_until(since + idle)),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, passed: u64) -> Poll<()> {
        if passed != self.passed {
            (self.passed, self.since) = (passed, Instant::now());
        }
        // The timer is moved only when it fires: moving it costs more than passing a few bytes.
        while self.sleep.as_mut().poll(cx).is_ready() {
            let end = self.since + self.idle;
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(end);
        }
        Poll::Pending
    }
}

/// Measured over TCP and unix sockets: 16 KiB pass half as much, 256 KiB no more.
const SCRATCH_LEN: usize = 128 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_LEN].into_boxed_slice());
}
