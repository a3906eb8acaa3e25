//! Listeners and byte streams, the same types for every kind of address.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cloister_transport::{Listener as SocketListener, Stream};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::ListenAddress;

/// Accepts connections on any kind of address.
#[derive(Debug)]
pub enum Listener {
    /// On an address of this machine.
    Tcp(TcpListener),
    /// On a vsock port or a path.
    Socket(SocketListener),
}

impl Listener {
    /// Listens, and returns the bound address, in which a port that was left to the system is known.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn bind(address: ListenAddress) -> io::Result<(Self, ListenAddress)> {
        match address {
            ListenAddress::Tcp(address) => {
                let socket = if address.is_ipv4() {
                    TcpSocket::new_v4()?
                } else {
                    TcpSocket::new_v6()?
                };
                // The address is free again as soon as the listener is closed.
                socket.set_reuseaddr(true)?;
                socket.bind(address)?;
                let listener = socket.listen(BACKLOG.unsigned_abs())?;
                let bound = ListenAddress::Tcp(listener.local_addr()?);
                Ok((Self::Tcp(listener), bound))
            }
            ListenAddress::Socket(ref socket) => {
                let listener = SocketListener::bind(socket).await?;
                // Listening again only changes the number: on vsock it is 128 before, and who does
                // not fit is refused.
                rustix::net::listen(&listener, BACKLOG)?;
                Ok((Self::Socket(listener), address))
            }
        }
    }

    /// The next connection; of a virtual machine, with its context id.
    ///
    /// # Errors
    /// Those of the operating system; accepting again may succeed.
    pub async fn accept(&self) -> io::Result<(Connection, Option<u32>)> {
        match self {
            Self::Tcp(listener) => Ok((tuned(listener.accept().await?.0)?.into(), None)),
            Self::Socket(listener) => {
                let (stream, cid) = listener.accept_from().await?;
                Ok((stream.into(), cid))
            }
        }
    }
}

/// Connections that may wait to be accepted, unless the system admits fewer (net.core.somaxconn).
/// Of a crowd that does not fit here, some try again only after a second.
const BACKLOG: i32 = 4096;

/// Sets what a relayed TCP connection needs.
pub(crate) fn tuned(stream: TcpStream) -> io::Result<TcpStream> {
    // What passes are whole records or messages of others: holding one back for the next only
    // delays it.
    stream.set_nodelay(true)?;
    // A peer that vanished is noticed within two minutes, even when nothing is to be sent.
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(&stream, 4)?;
    Ok(stream)
}

/// A connection of any kind.
#[derive(Debug)]
pub enum Connection {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over vsock or a path.
    Socket(Stream),
}

impl Connection {
    /// Closes it so that the peer does not take this for an ordinary end, as far as the kind of
    /// connection can tell.
    pub(crate) fn abort(self) {
        if let Self::Tcp(stream) = self {
            // When this fails the connection is gone already.
            let _ = stream.set_zero_linger();
        }
    }
}

impl From<TcpStream> for Connection {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<Stream> for Connection {
    fn from(stream: Stream) -> Self {
        Self::Socket(stream)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Socket(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Socket(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Socket(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Socket(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
