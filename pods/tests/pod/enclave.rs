//! A fake enclave that accepts every request and records it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cloister_protocol::frame::{Hello, Purpose};
use cloister_protocol::message::{Configure, HealthReport, Request, State};
use cloister_protocol::{Code, Operation, Rejection, SessionValue};
use cloister_transport::{
    Address, Deadlines, EgressPool, Handler, Listener, Server, Session, Stream, write_frame,
};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(crate) struct Enclave {
    pub(crate) mind: Arc<Mind>,
    running: JoinHandle<()>,
}

#[derive(Debug)]
pub(crate) struct Mind {
    service: &'static str,
    pub(crate) state: Mutex<State>,
    /// The access key ids of the configurations received, in order.
    pub(crate) configured: Mutex<Vec<String>>,
    pub(crate) seen: Mutex<Vec<Request>>,
    /// The answer to every unit of work, instead of a success.
    pub(crate) refusal: Mutex<Option<Rejection>>,
    /// Work waits for a permit.
    gate: Semaphore,
    pub(crate) begun: AtomicUsize,
    /// Requests to open the canary.
    pub(crate) canaries: AtomicUsize,
}

impl Enclave {
    pub(crate) async fn start(directory: &Path, service: &'static str) -> Self {
        Self::start_bound_to(None, directory, service).await
    }

    /// An enclave that somebody has bound to `session` before anybody else could connect.
    pub(crate) async fn start_bound_to(
        session: Option<Session>,
        directory: &Path,
        service: &'static str,
    ) -> Self {
        let listener = Listener::bind(&address(directory)).await.unwrap();
        let mind = Arc::new(Mind {
            service,
            state: Mutex::new(State::Unconfigured),
            configured: Mutex::default(),
            seen: Mutex::default(),
            refusal: Mutex::default(),
            gate: Semaphore::new(PLENTY),
            begun: AtomicUsize::new(0),
            canaries: AtomicUsize::new(0),
        });
        let server = Server::new(mind.clone(), EgressPool::new());
        if let Some(session) = session {
            bind(&server, session.value()).await;
        }
        let running = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok(stream) = listener.accept().await {
                let server = server.clone();
                connections.spawn(async move {
                    server
                        .serve_connection(stream, &CancellationToken::new())
                        .await
                });
            }
        });
        Self { mind, running }
    }

    /// Ends without notice, as an enclave does.
    pub(crate) async fn die(self) {
        self.running.abort();
        self.running.await.unwrap_err();
    }

    /// Dies after a successor that is ready listens.
    pub(crate) async fn die_and_be_replaced(self, directory: &Path) -> Self {
        std::fs::remove_file(directory.join("enclave.sock")).unwrap();
        let successor = Self::start(directory, self.mind.service).await;
        *successor.mind.state.lock().unwrap() = State::Ready;
        self.die().await;
        successor
    }
}

async fn bind(server: &Server<Mind>, session: SessionValue) {
    let (near, far) = UnixStream::pair().unwrap();
    let purpose = Purpose::Egress;
    let hello = Hello { purpose, session }.frame();
    write_frame(&mut Stream::from(near), &hello, Deadlines::default())
        .await
        .unwrap();
    // Replying may fail: nobody waits for it.
    let _ = server
        .serve_connection(far.into(), &CancellationToken::new())
        .await;
}

/// A session that is no pod's.
pub(crate) fn strange() -> Session {
    Session::new(SessionValue::new([8; 32]))
}

pub(crate) fn address(directory: &Path) -> Address {
    Address::Unix(directory.join("enclave.sock"))
}

impl Mind {
    /// Work that has not begun waits until the gate is opened.
    pub(crate) fn close_gate(&self) {
        assert_eq!(self.gate.forget_permits(PLENTY), PLENTY);
    }

    pub(crate) fn open_gate(&self) {
        self.gate.add_permits(PLENTY);
    }

    fn report(&self) -> Vec<u8> {
        let report = HealthReport {
            service: self.service.parse().unwrap(),
            version: "1.2.3".into(),
            state: *self.state.lock().unwrap(),
            cmk_arn: None,
            locked: true,
            pcr0: "ab".repeat(48),
        };
        serde_json::to_vec(&report).unwrap()
    }

    async fn work(&self, request: Request) -> Result<Vec<u8>, Rejection> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let _permit = self.gate.acquire().await.unwrap();
        if *self.state.lock().unwrap() != State::Ready {
            return Err(Rejection::new(Code::NotReady, "not configured"));
        }
        self.seen.lock().unwrap().push(request);
        self.refusal
            .lock()
            .unwrap()
            .clone()
            .map_or_else(|| Ok(br#"{"done":true}"#.to_vec()), Err)
    }
}

impl Handler for Mind {
    async fn handle(&self, request: Request) -> Result<Vec<u8>, Rejection> {
        let refusal = self.refusal.lock().unwrap().clone();
        match request.operation {
            Operation::Health => Ok(self.report()),
            Operation::Configure => {
                if let Some(rejection) = refusal {
                    return Err(rejection);
                }
                let configure: Configure = serde_json::from_slice(&request.parts[0]).unwrap();
                let id = configure.credentials.access_key_id.expose().to_owned();
                self.configured.lock().unwrap().push(id);
                *self.state.lock().unwrap() = if self.service == "signer" {
                    State::Adopted
                } else {
                    State::Ready
                };
                Ok(self.report())
            }
            Operation::OpenCanary => {
                self.canaries.fetch_add(1, Ordering::SeqCst);
                let _permit = self.gate.acquire().await.unwrap();
                *self.state.lock().unwrap() = State::Ready;
                Ok(self.report())
            }
            _ => self.work(request).await,
        }
    }
}

const PLENTY: usize = 1_000_000;
