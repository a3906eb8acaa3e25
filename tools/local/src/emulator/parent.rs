//! The parent during a boot: answers the enclave's heartbeat.

use std::io;
use std::path::Path;
use std::time::Duration;

use cloister_contract::ports::{HEARTBEAT, HEARTBEAT_BYTE};
use cloister_transport::{Address, Listener};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// The parent of one enclave that is about to boot.
#[derive(Debug)]
pub(super) struct Parent(Listener);

impl Parent {
    /// Listens on the socket to which the vsock device forwards the parent's heartbeat port:
    /// `SOCKET_PORT`.
    pub(super) async fn listen(socket: &Path) -> io::Result<Self> {
        let mut path = socket.as_os_str().to_owned();
        path.push(format!("_{HEARTBEAT}"));
        Ok(Self(Listener::bind(&Address::Unix(path.into())).await?))
    }

    /// Waits for the heartbeat and answers it.
    pub(super) async fn hear_heartbeat(&self) -> io::Result<()> {
        let mut stream = self.0.accept().await?;
        if stream.read_u8().await? != HEARTBEAT_BYTE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        stream.write_u8(HEARTBEAT_BYTE).await?;
        // The device drops undelivered bytes when the connection closes: let the enclave close it.
        let _ = timeout(GRACE, stream.read_u8()).await;
        Ok(())
    }
}

const GRACE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use cloister_transport::Stream;

    use super::*;

    #[tokio::test]
    async fn a_heartbeat_is_answered_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("vm.sock");
        let parent = Parent::listen(&socket).await.unwrap();
        let address = Address::Unix(directory.path().join("vm.sock_9000"));
        for (byte, answered) in [(0xb7, true), (0xb8, false)] {
            let enclave = async {
                let mut stream = Stream::connect(&address).await.unwrap();
                stream.write_u8(byte).await.unwrap();
                stream.read_u8().await
            };
            let (heard, answer) = tokio::join!(parent.hear_heartbeat(), enclave);
            assert_eq!(
                (heard.is_ok(), answer.is_ok_and(|answer| answer == 0xb7)),
                (answered, answered)
            );
        }
    }
}
