//! A ceiling on open connections: a further one closes the one that has been idle longest.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower_service::Service;

/// Accepts connections and keeps their number below a ceiling. Clones share it.
///
/// Idle connections are closed first, then those whose current request began first: a client that
/// opens many connections, or begins many requests, displaces its own.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    open: Arc<Mutex<Open>>,
    ceiling: usize,
}

#[derive(Debug, Default)]
struct Open {
    last_id: u64,
    connections: BTreeMap<u64, State>,
}

#[derive(Debug)]
struct State {
    /// True while a request is being answered.
    busy: bool,
    /// Start of the present state.
    since: Instant,
    close: CancellationToken,
}

impl Connections {
    pub(crate) fn new(ceiling: u32) -> Self {
        Self {
            open: Arc::default(),
            ceiling: usize::try_from(ceiling).unwrap_or(usize::MAX),
        }
    }

    fn add(&self) -> (Entry, CancellationToken) {
        let close = CancellationToken::new();
        let mut open = lock(&self.open);
        if open.connections.len() >= self.ceiling {
            let victim = open
                .connections
                .iter()
                .min_by_key(|(_, state)| (state.busy, state.since))
                .map(|(id, _)| *id);
            if let Some(state) = victim.and_then(|id| open.connections.remove(&id)) {
                state.close.cancel();
            }
        }
        open.last_id += 1;
        let id = open.last_id;
        let state = State {
            busy: false,
            since: Instant::now(),
            close: close.clone(),
        };
        open.connections.insert(id, state);
        let entry = Entry {
            id,
            open: self.open.clone(),
        };
        (entry, close)
    }
}

/// The map is valid whatever panicked meanwhile.
fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection's entry, removed when dropped.
#[derive(Debug)]
struct Entry {
    id: u64,
    open: Arc<Mutex<Open>>,
}

impl Entry {
    fn set_busy(&self, busy: bool) {
        if let Some(state) = lock(&self.open).connections.get_mut(&self.id) {
            state.busy = busy;
            state.since = Instant::now();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.open).connections.remove(&self.id);
    }
}

impl<S> Accept<TcpStream, S> for Connections {
    type Stream = Connection;
    type Service = Watched<S>;
    type Future = std::future::Ready<io::Result<(Connection, Watched<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepted = stream.set_nodelay(true).map(|()| {
            let (entry, close) = self.add();
            let entry = Arc::new(entry);
            let connection = Connection {
                stream,
                closed: Box::pin(close.cancelled_owned()),
                _entry: entry.clone(),
            };
            (connection, Watched { service, entry })
        });
        std::future::ready(accepted)
    }
}

/// A connection that ends when its place is taken.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    _entry: Arc<Entry>,
}

impl Connection {
    /// Fails once the connection's place has been taken.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.closed.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A service that marks its connection as busy while it answers a request.
#[derive(Clone, Debug)]
pub(crate) struct Watched<S> {
    service: S,
    entry: Arc<Entry>,
}

impl<S, R> Service<R> for Watched<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        ready!(self.service.poll_ready(cx))?;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let busy = Busy::new(self.entry.clone());
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(busy);
            answer
        })
    }
}

struct Busy(Arc<Entry>);

impl Busy {
    fn new(entry: Arc<Entry>) -> Self {
        entry.set_busy(true);
        Self(entry)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set_busy(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connections_are_closed_before_busy_ones_and_older_ones_first() {
        let connections = Connections::new(3);
        let (busy, busy_close) = connections.add();
        busy.set_busy(true);
        let (_older, older_close) = connections.add();
        let (_newer, newer_close) = connections.add();
        let (_further, _close) = connections.add();
        assert!(older_close.is_cancelled());
        let (_another, _close) = connections.add();
        assert!(newer_close.is_cancelled() && !busy_close.is_cancelled());
        drop(busy);
        assert_eq!(lock(&connections.open).connections.len(), 2);
    }

    #[test]
    fn a_connection_is_idle_again_after_its_request() {
        let connections = Connections::new(2);
        let (first, first_close) = connections.add();
        let first = Arc::new(first);
        let (_second, second_close) = connections.add();
        drop(Busy::new(first.clone()));
        // The second has now been idle for longer.
        let _third = connections.add();
        assert!(second_close.is_cancelled() && !first_close.is_cancelled());
    }
}
