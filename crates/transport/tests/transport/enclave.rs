//! An enclave for tests: `generate_key` echoes its part, `set_key` does what its part says.

use std::sync::Arc;
use std::time::Duration;

use cloister_protocol::frame::{Frame, Hello, Purpose};
use cloister_protocol::message::Request;
use cloister_protocol::{Code, Operation, Rejection, SessionValue};
use cloister_transport::{Address, Client, EgressPool, Handler, Limits, Listener, Server, Session};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct Enclave {
    directory: Arc<TempDir>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<()>,
}

impl Enclave {
    pub(crate) async fn start(limits: Limits) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), limits).await
    }

    async fn start_in(directory: Arc<TempDir>, limits: Limits) -> Self {
        let gate = Arc::new(Gate::default());
        let shutdown = CancellationToken::new();
        let server = Server::with_limits(gate.clone(), EgressPool::new(), limits);
        let listener = Listener::bind(&address(&directory)).await.unwrap();
        let running = tokio::spawn(server.run(listener, shutdown.clone()));
        Self {
            directory,
            gate,
            shutdown,
            running,
        }
    }

    pub(crate) fn address(&self) -> Address {
        address(&self.directory)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address(), session())
    }

    /// Stops it, then starts another one at the same address.
    pub(crate) async fn restart(self) -> Self {
        self.shutdown.cancel();
        self.running.await.unwrap();
        Self::start_in(self.directory, Limits::default()).await
    }
}

/// The session of every pod here.
pub(crate) fn session() -> Session {
    Session::new(SessionValue::new([7; 32]))
}

/// The hello of such a pod.
pub(crate) fn hello(purpose: Purpose) -> Frame {
    let session = session().value();
    Hello { purpose, session }.frame()
}

fn address(directory: &TempDir) -> Address {
    Address::Unix(directory.path().join("enclave.sock"))
}

/// Requests that wait do so until the test opens the gate for them.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) open: Semaphore,
    waiting: tokio::sync::watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            open: Semaphore::new(0),
            waiting: tokio::sync::watch::Sender::new(0),
        }
    }
}

impl Gate {
    /// Returns once so many requests have come to wait here.
    pub(crate) async fn reached_by(&self, count: usize) {
        self.waiting
            .subscribe()
            .wait_for(|waiting| *waiting >= count)
            .await
            .unwrap();
    }
}

impl Handler for Gate {
    async fn handle(&self, request: Request) -> Result<Vec<u8>, Rejection> {
        match (
            request.operation,
            request.parts.first().map(|part| &part[..]),
        ) {
            (Operation::GenerateKey, Some(part)) => Ok(part.to_vec()),
            (Operation::SetKey, Some(b"panic")) => panic!("as the test wants it"),
            (Operation::SetKey, Some(b"endless")) => Ok(vec![b' '; 600 * 1024]),
            (Operation::SetKey, Some(part)) if part.trim_ascii_end() == b"wait" => {
                self.waiting.send_modify(|waiting| *waiting += 1);
                self.open.acquire().await.unwrap().forget();
                Ok(b"waited".to_vec())
            }
            (Operation::SetKey, Some(b"spin")) => {
                let began = std::time::Instant::now();
                while began.elapsed() < Duration::from_millis(20) {
                    std::hint::spin_loop();
                }
                Ok(b"spun".to_vec())
            }
            (Operation::Health, None) => Ok(b"well".to_vec()),
            _ => Err(Rejection::new(Code::UnknownOperation, "not in this test")),
        }
    }
}

pub(crate) fn echo(part: impl Into<bytes::Bytes>) -> Request {
    Request {
        operation: Operation::GenerateKey,
        parts: vec![part.into()],
    }
}

pub(crate) fn command(part: &'static str) -> Request {
    Request {
        operation: Operation::SetKey,
        parts: vec![part.into()],
    }
}

pub(crate) fn health() -> Request {
    Request {
        operation: Operation::Health,
        parts: vec![],
    }
}

/// A test that would hang fails instead.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it hangs")
}
