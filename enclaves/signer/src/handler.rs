//! The requests of a signer.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cloister_protocol::message::{Operation, Request};
use cloister_protocol::{Code, Rejection};
use cloister_runtime::{EnclaveState, Platform};
use cloister_sealing::{OpenError, OpenedRow, Opener, Service};
use cloister_transport::Handler;

use crate::failures::Failures;
use crate::sign_transaction::{SignTransaction, read_row};

/// Signs for callers, once it is ready.
#[derive(Debug)]
pub struct Signer {
    state: EnclaveState<Opener>,
    failures: Failures,
}

impl Signer {
    /// A signer that waits to be configured.
    pub fn new(platform: Arc<Platform>) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self {
            state: EnclaveState::new(platform, Service::Signer, version, |kms, _| {
                Opener::new(kms)
            }),
            failures: Failures::new(),
        }
    }

    async fn sign_transaction(&self, request: &[u8], row: &[u8]) -> Result<Vec<u8>, Rejection> {
        let request = SignTransaction::parse(request, row, now())?;
        let opener = self.state.ready()?;
        let opened = opener.open(request.row()).await.map_err(refused)?;
        request.answer(&opened, &self.failures)
    }

    /// Opening the canary proves that this signer can open what the current generator seals.
    async fn open_canary(&self, row: &[u8]) -> Result<Vec<u8>, Rejection> {
        let row = read_row(row)?;
        let opened: OpenedRow = self
            .state
            .service()?
            .open_through_kms(&row)
            .await
            .map_err(refused)?;
        self.state.become_ready(&opened)?;
        Ok(self.state.health())
    }
}

impl Handler for Signer {
    async fn handle(&self, request: Request) -> Result<Vec<u8>, Rejection> {
        match (request.operation, request.parts.as_slice()) {
            (Operation::Health, []) => Ok(self.state.health()),
            (Operation::ProveBoot, [nonce]) => self.state.prove_boot(nonce).await,
            (Operation::Configure, [configure]) => self.state.configure(configure).await,
            (Operation::OpenCanary, [row]) => self.open_canary(row).await,
            (Operation::SignTransaction, [request, row]) => {
                self.sign_transaction(request, row).await
            }
            _ => Err(Rejection::new(
                Code::ProtocolViolation,
                "a signer does not do this",
            )),
        }
    }
}

/// The caller is told less than the log.
fn refused(error: OpenError) -> Rejection {
    tracing::warn!(
        error = &error as &dyn std::error::Error,
        "the row was not opened"
    );
    error.into()
}

/// Seconds since the Unix epoch. Init sets the clock from the NSM; before 1970 no request is within
/// its window.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
