//! Opens connections to destinations.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cloister_transport::{Address, Stream};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::connection::{Connection, tuned};
use crate::{ConnectAddress, Destination};

/// Opens connections. A name is resolved again for each, as the addresses of an AWS endpoint change
/// all the time; only connections of the same second share an answer, so that a thousand of them
/// are not a thousand questions.
#[derive(Debug, Default)]
pub(crate) struct Dialer(Mutex<BTreeMap<Destination, (Instant, Resolution)>>);

/// A question that was asked once, for all who wait for its answer.
type Resolution = Shared<BoxFuture<'static, Result<Arc<[SocketAddr]>, Arc<io::Error>>>>;

impl Dialer {
    /// Connects to any kind of address within `deadline`.
    pub(crate) async fn connect(
        &self,
        address: &ConnectAddress,
        deadline: Duration,
    ) -> io::Result<Connection> {
        match address {
            ConnectAddress::Tcp(target) => self
                .connect_tcp(target, deadline)
                .await
                .map(Connection::from),
            ConnectAddress::Socket(address) => in_time(deadline, connect_socket(address))
                .await
                .map(Connection::from),
        }
    }

    /// Connects to whichever address of `target` answers first, within `deadline`.
    pub(crate) async fn connect_tcp(
        &self,
        target: &Destination,
        deadline: Duration,
    ) -> io::Result<TcpStream> {
        in_time(deadline, async {
            tuned(first_to_answer(&self.resolve(target).await?).await?)
        })
        .await
    }

    async fn resolve(&self, target: &Destination) -> io::Result<Arc<[SocketAddr]>> {
        if let Ok(address) = target.host().parse::<IpAddr>() {
            return Ok(Arc::new([SocketAddr::new(address, target.port())]));
        }
        let answer = self.ask(target, Instant::now()).await;
        answer.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot resolve {}: {error}", target.host()),
            )
        })
    }

    /// The question about `target` that is being asked, or was a moment ago, or else a new one. As
    /// many are kept as there are destinations on our lists.
    fn ask(&self, target: &Destination, now: Instant) -> Resolution {
        // A map of questions is whole whatever panicked meanwhile.
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match asked.get(target) {
            Some((at, resolution)) if resolution.peek().is_none() || now < *at + FRESH => {
                resolution.clone()
            }
            _ => {
                let (host, port) = (target.host().to_owned(), target.port());
                // A task: the caller may be gone when the answer comes.
                let lookup =
                    tokio::spawn(async move { Ok(lookup_host((host, port)).await?.collect()) });
                let lookup = lookup.map(|joined| {
                    joined
                        .unwrap_or_else(|error| Err(error.into()))
                        .map_err(Arc::new)
                });
                let resolution = lookup.boxed().shared();
                asked.insert(target.clone(), (now, resolution.clone()));
                resolution
            }
        }
    }
}

async fn in_time<T>(
    deadline: Duration,
    connecting: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(deadline, connecting)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A simple form of Happy Eyeballs (RFC 8305): the next address is tried as soon as one fails or
/// seems to hang, without giving up on those that were tried before.
async fn first_to_answer(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        attempts.spawn(TcpStream::connect(*address));
        match timeout(ATTEMPT_DELAY, attempts.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => failure = error,
            _ => {}
        }
    }
    while let Some(joined) = attempts.join_next().await {
        match joined {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => {}
        }
    }
    Err(failure)
}

/// Connects to a vsock port or a path. Unlike TCP these refuse at once when too many wait to be
/// accepted, which passes: a full path answers EAGAIN, a full vsock port the same ECONNRESET as one
/// that has no listener.
async fn connect_socket(address: &Address) -> io::Result<Stream> {
    let mut pause = Duration::from_millis(1);
    let mut resets = 0;
    loop {
        match Stream::connect(address).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && resets < RESETS => {
                resets += 1
            }
            other => return other,
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Time for which an answer of the name servers is used.
const FRESH: Duration = Duration::from_secs(1);
/// Time after which an address that has not answered seems to hang (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Times that a vsock port may refuse before it counts as having no listener: a quarter of a second.
const RESETS: u32 = 8;
/// Longest pause before a full socket is tried again.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, UnixListener, UnixSocket};

    use super::*;

    #[tokio::test]
    async fn any_address_that_answers_will_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        // A port whose listener is gone.
        let dead = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        for addresses in [
            vec![good],
            vec![dead, good],
            vec![good, dead],
            vec![dead, dead, good],
        ] {
            assert_eq!(
                first_to_answer(&addresses)
                    .await
                    .unwrap()
                    .peer_addr()
                    .unwrap(),
                good
            );
        }
        let refused = first_to_answer(&[dead, dead]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(
            first_to_answer(&[]).await.unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[tokio::test]
    async fn names_are_resolved() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialer = Dialer::default();
        let by_name = format!("localhost:{port}").parse().unwrap();
        let dialled = dialer
            .connect_tcp(&by_name, Duration::from_secs(5))
            .await
            .unwrap();
        assert_eq!(dialled.peer_addr().unwrap().port(), port);
        let nowhere = format!("nowhere.invalid:{port}").parse().unwrap();
        let failed = dialer
            .connect_tcp(&nowhere, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert!(failed.to_string().contains("nowhere.invalid"), "{failed}");
    }

    #[tokio::test]
    async fn connections_of_the_same_moment_share_an_answer_and_later_ones_ask_again() {
        let (dialer, target, now) = (
            Dialer::default(),
            "localhost:1".parse().unwrap(),
            Instant::now(),
        );
        let first = dialer.ask(&target, now);
        assert!(
            dialer.ask(&target, now + 2 * FRESH).ptr_eq(&first),
            "asked for what is being asked"
        );
        first.clone().await.unwrap();
        assert!(dialer.ask(&target, now + FRESH / 2).ptr_eq(&first));
        assert!(!dialer.ask(&target, now + FRESH).ptr_eq(&first));
    }

    #[tokio::test]
    async fn a_full_path_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("full.sock");
        let socket = UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        let listener: UnixListener = socket.listen(0).unwrap();
        let address = ConnectAddress::Socket(Address::Unix(path));
        let dialer = Dialer::default();
        let _first = dialer
            .connect(&address, Duration::from_secs(5))
            .await
            .unwrap();
        let full = dialer
            .connect(&address, Duration::from_millis(20))
            .await
            .unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::TimedOut);
        let (accepted, second) = tokio::join!(
            listener.accept(),
            dialer.connect(&address, Duration::from_secs(5))
        );
        accepted.unwrap();
        second.unwrap();
    }
}
