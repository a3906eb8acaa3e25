//! One byte stream and one listener for both kinds of address.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_vsock::{VsockAddr, VsockListener, VsockStream};

use crate::Address;

/// Accepts the connections of pods.
#[derive(Debug)]
pub struct Listener(ListenerKind);

#[derive(Debug)]
enum ListenerKind {
    Unix(UnixListener),
    Vsock(VsockListener),
}

impl Listener {
    /// Listens on `address`. A socket file that a dead process left behind is replaced; the new one belongs to this user
    /// alone.
    ///
    /// # Errors
    /// Those of the operating system; [`io::ErrorKind::AddrInUse`] when somebody listens there already.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        Ok(Self(match address {
            Address::Unix(path) => ListenerKind::Unix(bind_unix(path).await?),
            Address::Vsock { cid, port } => ListenerKind::Vsock(VsockListener::bind(VsockAddr::new(*cid, *port))?),
        }))
    }

    /// Waits for the next connection. Who connected is not told: a context id authenticates nobody.
    ///
    /// # Errors
    /// Those of the operating system; accepting again may succeed.
    pub async fn accept(&self) -> io::Result<Stream> {
        Ok(self.accept_from().await?.0)
    }

    /// As [`Listener::accept`], with the context id of the machine that connected; `None` on a path.
    ///
    /// # Errors
    /// Those of the operating system; accepting again may succeed.
    pub async fn accept_from(&self) -> io::Result<(Stream, Option<u32>)> {
        match &self.0 {
            ListenerKind::Unix(listener) => Ok((listener.accept().await?.0.into(), None)),
            ListenerKind::Vsock(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream(StreamKind::Vsock(stream)), Some(peer.cid())))
            }
        }
    }
}

async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(path).await {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                _ => return Err(error),
            }
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A connection between a pod and an enclave. Shutting down the writing half leaves the reading half open.
#[derive(Debug)]
pub struct Stream(StreamKind);

#[derive(Debug)]
enum StreamKind {
    Unix(UnixStream),
    Vsock(VsockStream),
}

impl Stream {
    /// Connects to an enclave.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Unix(path) => Ok(UnixStream::connect(path).await?.into()),
            Address::Vsock { cid, port } => {
                Ok(Self(StreamKind::Vsock(VsockStream::connect(VsockAddr::new(*cid, *port)).await?)))
            }
        }
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self(StreamKind::Unix(stream))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            StreamKind::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            StreamKind::Vsock(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            StreamKind::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            StreamKind::Vsock(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            StreamKind::Unix(stream) => Pin::new(stream).poll_flush(cx),
            StreamKind::Vsock(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            StreamKind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            StreamKind::Vsock(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_process_leaves_no_address_in_use_but_a_living_one_does() {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::Unix(directory.path().join("enclave.sock"));
        let first = Listener::bind(&address).await.unwrap();
        assert_eq!(Listener::bind(&address).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // The file stays when the listener goes, as it does when a process is killed.
        drop(first);
        let second = Listener::bind(&address).await.unwrap();
        let (accepted, connected) = tokio::join!(second.accept(), Stream::connect(&address));
        accepted.unwrap();
        connected.unwrap();
    }

    #[tokio::test]
    async fn nobody_else_may_connect() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("enclave.sock");
        let _listener = Listener::bind(&Address::Unix(path.clone())).await.unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
