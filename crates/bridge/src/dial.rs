//! Opens a TCP connection to whichever address of a destination answers first.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Destination;

/// Resolves `target` anew, as the addresses of an AWS endpoint change all the time, and connects within `deadline`.
pub(crate) async fn dial(target: &Destination, deadline: Duration) -> io::Result<TcpStream> {
    let connecting = async {
        let stream = first_to_answer(lookup_host((target.host(), target.port())).await?).await?;
        // What passes here are whole TLS records: holding one back for the next only delays it.
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    timeout(deadline, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A simple form of Happy Eyeballs (RFC 8305): the next address is tried as soon as one fails or seems to hang, without
/// giving up on those that were tried before.
async fn first_to_answer(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        attempts.spawn(TcpStream::connect(address));
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

/// Time after which an address that has not answered seems to hang (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn any_address_that_answers_will_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        // A port on which nobody listens any more.
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for addresses in [vec![good], vec![dead, good], vec![good, dead], vec![dead, dead, good]] {
            assert_eq!(first_to_answer(addresses.into_iter()).await.unwrap().peer_addr().unwrap(), good);
        }
        let refused = first_to_answer([dead, dead].into_iter()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(first_to_answer(std::iter::empty()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn names_are_resolved() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let by_name = format!("localhost:{port}").parse().unwrap();
        assert_eq!(dial(&by_name, Duration::from_secs(5)).await.unwrap().peer_addr().unwrap().port(), port);
        let nowhere = format!("nowhere.invalid:{port}").parse().unwrap();
        assert!(dial(&nowhere, Duration::from_secs(5)).await.is_err());
    }
}
