//! One request for a signature: a half before the row is opened and a half after it. Opening is the
//! only step that may call AWS.

use cloister_protocol::authentication::check_window;
use cloister_protocol::request::AuthenticatedRequest;
use cloister_protocol::{Code, Rejection, SealedRow};
use cloister_sealing::OpenedRow;

use crate::authentication::authenticate;
use crate::failures::Failures;
use crate::sign::sign;

/// A request of the right shape, size and time, and the row of its key. Its payload has not been
/// read.
#[derive(Debug)]
pub struct PendingSignature {
    request: AuthenticatedRequest,
    row: SealedRow,
}

impl PendingSignature {
    /// Reads both parts of the request at `now`, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// Those of [`AuthenticatedRequest::parse`]; [`Code::TimestampOutOfWindow`];
    /// [`Code::ProtocolViolation`] and [`Code::SealedRowRefused`] if the row is malformed or
    /// another key's.
    pub fn parse(request: &[u8], row: &[u8], now: u64) -> Result<Self, Rejection> {
        let request = AuthenticatedRequest::parse(request)?;
        cloister_runtime::record_key(request.key_id);
        check_window(request.timestamp, now)?;
        let row = read_row(row)?;
        if row.key_id != request.key_id {
            return Err(Rejection::new(
                Code::SealedRowRefused,
                "the sealed row belongs to another key",
            ));
        }
        Ok(Self { request, row })
    }

    /// The row to open.
    pub fn row(&self) -> &SealedRow {
        &self.row
    }

    /// Authenticates the request, reads its payload, signs, and encodes the result as JSON.
    ///
    /// # Errors
    /// Those of [`authenticate`] and [`sign`].
    pub fn answer(&self, opened: &OpenedRow, failures: &Failures) -> Result<Vec<u8>, Rejection> {
        let signed = sign(&authenticate(&self.request, opened, failures)?)?;
        Ok(serde_json::to_vec(&signed).expect("strings only"))
    }
}

/// Reads a row as the pod sends it.
pub(crate) fn read_row(row: &[u8]) -> Result<SealedRow, Rejection> {
    serde_json::from_slice(row)
        .map_err(|_| Rejection::new(Code::ProtocolViolation, "the pod sent a malformed row"))
}
