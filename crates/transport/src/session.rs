//! The session of a pod with one boot of its enclave: the pod's end of it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cloister_protocol::SessionValue;
use cloister_protocol::frame::{Hello, HelloReply, Purpose};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::{Address, Deadlines, Stream, TransportError, read_frame, write_frame};

/// The value that every connection of a pod to its enclave states. Clones share it.
#[derive(Clone, Debug)]
pub struct Session(Arc<watch::Sender<Current>>);

#[derive(Debug)]
struct Current {
    value: SessionValue,
    /// An enclave is bound to another value.
    refused: bool,
}

impl Session {
    /// A session with this value.
    pub fn new(value: SessionValue) -> Self {
        Self(Arc::new(watch::Sender::new(Current {
            value,
            refused: false,
        })))
    }

    /// Replaces the value. To be called while no enclave runs: one that is bound to the former value
    /// refuses every later connection.
    pub fn renew(&self, value: SessionValue) {
        self.0.send_replace(Current {
            value,
            refused: false,
        });
    }

    /// The present value.
    pub fn value(&self) -> SessionValue {
        self.0.borrow().value.clone()
    }

    /// Waits until the value is not `former` any more; returns it.
    pub async fn renewed(&self, former: &SessionValue) -> SessionValue {
        self.wait(|current| !current.value.matches(former)).await;
        self.value()
    }

    /// Waits until an enclave has refused the present value: another process was first.
    pub async fn refused(&self) {
        self.wait(|current| current.refused).await;
    }

    async fn wait(&self, until: impl FnMut(&Current) -> bool) {
        let mut changes = self.0.subscribe();
        let changed = changes.wait_for(until).await;
        drop(changed.expect("the sender is borrowed from self"));
    }

    /// Opens a connection to the enclave at `address`, which accepts it. The value is read once the
    /// peer is connected, so that an enclave never hears the value of an earlier boot.
    ///
    /// # Errors
    /// [`TransportError::OtherSession`] if the enclave is bound to another value; others if it
    /// cannot be reached or does not reply.
    pub async fn connect(
        &self,
        address: &Address,
        purpose: Purpose,
    ) -> Result<Stream, TransportError> {
        let mut stream = timeout(CONNECT_DEADLINE, Stream::connect(address))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let session = self.value();
        let hello = Hello { purpose, session };
        write_frame(&mut stream, &hello.frame(), Deadlines::default()).await?;
        let reply = read_frame(&mut stream, Deadlines::with_idle(REPLY_DEADLINE))
            .await?
            .ok_or(TransportError::Truncated)?;
        match HelloReply::decode(&reply)? {
            HelloReply::Accepted => Ok(stream),
            HelloReply::OtherSession => {
                self.0.send_if_modified(|current| {
                    let refused = current.value.matches(&hello.session);
                    current.refused |= refused;
                    refused
                });
                Err(TransportError::OtherSession)
            }
        }
    }
}

/// Time to connect to the enclave on the same machine.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Time for the enclave's reply to a hello.
const REPLY_DEADLINE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::Listener;

    fn value(byte: u8) -> SessionValue {
        SessionValue::new([byte; 32])
    }

    fn is_pending(future: impl Future<Output = ()>) -> bool {
        let future = std::pin::pin!(future);
        future.poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending
    }

    #[tokio::test]
    async fn a_refusal_counts_for_the_value_that_was_refused() {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::Unix(directory.path().join("enclave.sock"));
        let listener = Listener::bind(&address).await.unwrap();
        let session = Session::new(value(1));
        // An enclave that answers after the pod has gone on to the next one.
        let late = session.clone();
        let enclave = async move {
            let mut stream = listener.accept().await.unwrap();
            let hello = read_frame(&mut stream, Deadlines::default()).await;
            let hello = Hello::decode(&hello.unwrap().unwrap()).unwrap();
            assert!(hello.session.matches(&late.value()));
            late.renew(value(2));
            let refused = HelloReply::OtherSession.frame();
            write_frame(&mut stream, &refused, Deadlines::default())
                .await
                .unwrap();
            let mut stream = listener.accept().await.unwrap();
            read_frame(&mut stream, Deadlines::default()).await.unwrap();
            write_frame(&mut stream, &refused, Deadlines::default())
                .await
                .unwrap();
        };
        let pod = async {
            for refused in [false, true] {
                let outcome = session.connect(&address, Purpose::Requests).await;
                assert!(matches!(outcome, Err(TransportError::OtherSession)));
                assert_eq!(is_pending(session.refused()), !refused);
            }
        };
        tokio::join!(enclave, pod);
        session.renew(value(3));
        assert!(is_pending(session.refused()), "the next boot begins anew");
    }

    #[tokio::test]
    async fn a_new_value_is_noticed() {
        let session = Session::new(value(1));
        let waiting = tokio::spawn({
            let session = session.clone();
            async move { session.renewed(&value(1)).await }
        });
        tokio::task::yield_now().await;
        session.renew(value(2));
        assert!(waiting.await.unwrap().matches(&value(2)));
    }
}
