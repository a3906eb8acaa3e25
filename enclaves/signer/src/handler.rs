//! Requests of a signer.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cloister_contract::{ErrorChain, Service, events};
use cloister_protocol::message::{Operation, Request};
use cloister_protocol::{Code, Rejection};
use cloister_runtime::{EnclaveState, Platform};
use cloister_sealing::{OpenError, OpenedRow, Unsealer};
use cloister_transport::Handler;

use crate::failures::Failures;
use crate::sign_transaction::{PendingSignature, read_row};

/// Signs for callers once it is ready.
#[derive(Debug)]
pub struct Signer {
    state: EnclaveState<Unsealer>,
    failures: Failures,
}

impl Signer {
    /// An unconfigured signer.
    pub fn new(platform: Arc<Platform>) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self {
            state: EnclaveState::new(platform, Service::Signer, version, |kms, _| {
                Unsealer::new(kms)
            }),
            failures: Failures::new(),
        }
    }

    async fn sign_transaction(&self, pending: PendingSignature) -> Result<Vec<u8>, Rejection> {
        let unsealer = self.state.ready()?;
        let opened = unsealer.open(pending.row()).await.map_err(refused)?;
        pending.answer(&opened, &self.failures)
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
            (Operation::SignTransaction, [body, row]) => {
                let pending = PendingSignature::parse(body, row, now())?;
                // The frame's memory is free while KMS is waited for.
                drop(request);
                self.sign_transaction(pending).await
            }
            _ => Err(Rejection::new(
                Code::ProtocolViolation,
                "the signer does not have this operation",
            )),
        }
    }
}

/// Logs the cause; the caller gets only the code.
fn refused(error: OpenError) -> Rejection {
    tracing::warn!(
        event = events::ROW_NOT_OPENED,
        error = %ErrorChain(&error),
        "failed to open a sealed row"
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
