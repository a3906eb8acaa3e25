//! Byte streams and listeners, the same types for every kind of address.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
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
    /// Listens on `address`. A socket file that a dead process left behind is replaced; the new one
    /// belongs to this user alone.
    ///
    /// # Errors
    /// Those of the operating system; [`io::ErrorKind::AddrInUse`] if a process listens there
    /// already, [`io::ErrorKind::Unsupported`] for [`Address::Hybrid`].
    pub async fn bind(address: &Address) -> io::Result<Self> {
        Ok(Self(match address {
            Address::Unix(path) => ListenerKind::Unix(bind_unix(path).await?),
            Address::Vsock { cid, port } => {
                let listener = VsockListener::bind(VsockAddr::new(*cid, *port))?;
                // Accepted connections inherit it.
                receive_window(&listener)?;
                ListenerKind::Vsock(listener)
            }
            Address::Hybrid { .. } => return Err(io::ErrorKind::Unsupported.into()),
        }))
    }

    /// Waits for the next connection. A context id does not authenticate the peer.
    ///
    /// # Errors
    /// Those of the operating system; accepting again may succeed.
    pub async fn accept(&self) -> io::Result<Stream> {
        Ok(self.accept_from().await?.0)
    }

    /// As [`Listener::accept`], with the context id of the machine that connected; `None` on a
    /// path.
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

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            ListenerKind::Unix(listener) => listener.as_fd(),
            ListenerKind::Vsock(listener) => listener.as_fd(),
        }
    }
}

async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(path).await {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?
                }
                _ => return Err(error),
            }
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A connection between a pod and an enclave. Shutting down the writing half leaves the reading
/// half open.
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
    /// Those of the operating system; for [`Address::Hybrid`], [`io::ErrorKind::ConnectionRefused`]
    /// if the port has no listener.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Unix(path) => Ok(UnixStream::connect(path).await?.into()),
            Address::Vsock { cid, port } => {
                let stream = VsockStream::connect(VsockAddr::new(*cid, *port)).await?;
                receive_window(&stream)?;
                Ok(Self(StreamKind::Vsock(stream)))
            }
            Address::Hybrid { path, port } => {
                Ok(connect_through(path, *port, CONNECT_DEADLINE).await?.into())
            }
        }
    }
}

/// Sets the receive window of a vsock socket, which is 256 KiB by default.
///
/// From Linux 6.12.92 on, virtio-vsock counts the overhead of each packet against the window: many
/// small frames exhaust a small window before their bytes do, and the connection is reset.
fn receive_window(socket: &impl AsFd) -> io::Result<()> {
    setsockopt(socket, BufferMaxSize, &RECEIVE_WINDOW)?;
    setsockopt(socket, BufferSize, &RECEIVE_WINDOW)?;
    Ok(())
}

sockopt_impl!(
    /// SO_VM_SOCKETS_BUFFER_SIZE. See vsock(7).
    BufferSize,
    Both,
    libc::AF_VSOCK,
    SO_VM_SOCKETS_BUFFER_SIZE,
    u64
);
sockopt_impl!(
    /// SO_VM_SOCKETS_BUFFER_MAX_SIZE. See vsock(7).
    BufferMaxSize,
    Both,
    libc::AF_VSOCK,
    SO_VM_SOCKETS_BUFFER_MAX_SIZE,
    u64
);

/// From linux/vm_sockets.h, as is the next; libc does not have them.
const SO_VM_SOCKETS_BUFFER_SIZE: libc::c_int = 0;
const SO_VM_SOCKETS_BUFFER_MAX_SIZE: libc::c_int = 2;
/// Bytes of the receive window of a vsock connection.
const RECEIVE_WINDOW: u64 = 8 * 1024 * 1024;

async fn connect_through(path: &Path, port: u32, deadline: Duration) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path).await?;
    timeout(deadline, ask_for(port, &mut stream)).await??;
    Ok(stream)
}

/// Sends `CONNECT port` and reads `OK` and a number, which means nothing to the client.
/// <https://github.com/firecracker-microvm/firecracker/blob/main/docs/vsock.md>
async fn ask_for(port: u32, stream: &mut UnixStream) -> io::Result<()> {
    stream
        .write_all(format!("CONNECT {port}\n").as_bytes())
        .await?;
    let mut answer = Vec::with_capacity(LONGEST_OK);
    // One byte at a time: what follows belongs to the stream.
    while answer.last() != Some(&b'\n') {
        if answer.len() == LONGEST_OK {
            return Err(io::ErrorKind::InvalidData.into());
        }
        answer.push(stream.read_u8().await.map_err(closed_is_refused)?);
    }
    match answer
        .strip_prefix(b"OK ")
        .and_then(|rest| rest.strip_suffix(b"\n"))
    {
        Some(number) if !number.is_empty() && number.iter().all(u8::is_ascii_digit) => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The monitor closes the connection if the port has no listener.
fn closed_is_refused(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            io::ErrorKind::ConnectionRefused.into()
        }
        _ => error,
    }
}

/// Time for a machine to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of `OK`, a space, the longest port and the end of the line.
const LONGEST_OK: usize = 14;

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self(StreamKind::Unix(stream))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            StreamKind::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            StreamKind::Vsock(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
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
        assert_eq!(
            Listener::bind(&address).await.unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        // The file stays when the listener goes, as it does when a process is killed.
        drop(first);
        let second = Listener::bind(&address).await.unwrap();
        let (accepted, connected) = tokio::join!(second.accept(), Stream::connect(&address));
        accepted.unwrap();
        connected.unwrap();
    }

    #[tokio::test]
    async fn vsock_connections_have_a_large_receive_window() {
        let address = Address::Vsock {
            cid: Address::ANY_CID,
            port: u32::MAX,
        };
        let listener = Listener::bind(&address).await.unwrap();
        let window = nix::sys::socket::getsockopt(&listener, BufferSize).unwrap();
        assert_eq!(window, RECEIVE_WINDOW);
    }

    #[tokio::test]
    async fn nobody_else_may_connect() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("enclave.sock");
        let _listener = Listener::bind(&Address::Unix(path.clone())).await.unwrap();
        assert_eq!(
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    /// A monitor that answers one connection with `answer`, then echoes what it gets.
    async fn behind_a_monitor(answer: &'static [u8]) -> io::Result<(String, Stream)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("machine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let monitor = tokio::spawn(async move {
            let mut stream = listener.accept().await.unwrap().0;
            let mut asked = String::new();
            while !asked.ends_with('\n') {
                asked.push(char::from(stream.read_u8().await.unwrap()));
            }
            // Whoever refuses the answer closes the connection in the midst of it.
            let _ = stream.write_all(answer).await;
            (asked, stream)
        });
        let connected = Stream::connect(&Address::Hybrid { path, port: 5000 }).await;
        let (asked, mut monitor) = monitor.await.unwrap();
        let mut stream = connected?;
        stream.write_all(b"ping").await.unwrap();
        let mut ping = [0; 4];
        monitor.read_exact(&mut ping).await.unwrap();
        assert_eq!(&ping, b"ping");
        Ok((asked, stream))
    }

    #[tokio::test]
    async fn a_port_is_reached_through_the_monitor_and_the_first_bytes_of_the_stream_are_the_enclaves()
     {
        let (asked, mut stream) = behind_a_monitor(b"OK 1073741824\nOK not for us\n")
            .await
            .unwrap();
        assert_eq!(asked, "CONNECT 5000\n");
        let mut first = [0; 14];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"OK not for us\n");
    }

    #[tokio::test]
    async fn any_other_answer_is_an_error() {
        for answer in [
            &b"OK\n"[..],
            b"OK \n",
            b"OK x\n",
            b"NO 5000\n",
            b"OK 00000000000000000000000000",
            b"\n",
        ] {
            let error = behind_a_monitor(answer).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_monitor_that_closes_refuses() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("machine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let address = Address::Hybrid { path, port: 5000 };
        let (_, connected) = tokio::join!(
            async {
                let mut stream = listener.accept().await.unwrap().0;
                stream.read_exact(&mut [0; 13]).await.unwrap();
            },
            Stream::connect(&address)
        );
        assert_eq!(
            connected.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        assert_eq!(
            Listener::bind(&address).await.unwrap_err().kind(),
            io::ErrorKind::Unsupported
        );
    }

    #[tokio::test]
    async fn a_monitor_that_says_nothing_is_not_waited_for_forever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("machine.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let error = connect_through(&path, 5000, Duration::from_millis(20))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
