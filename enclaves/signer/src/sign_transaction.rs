//! One request for a signature, from its bytes to its answer. Opening the row stands between the
//! two halves and is the only step that may talk to AWS.

use cloister_protocol::authentication::check_window;
use cloister_protocol::limits::MAX_BODY_LEN;
use cloister_protocol::request::AuthenticatedRequest;
use cloister_protocol::{Code, Rejection, SealedRow};
use cloister_sealing::OpenedRow;

use crate::authentication::authenticate;
use crate::failures::Failures;
use crate::sign::sign;

/// A request of the right shape, size and time, and the row of its key.
#[derive(Debug)]
pub struct SignTransaction {
    request: AuthenticatedRequest,
    row: SealedRow,
}

impl SignTransaction {
    /// Reads both parts of the request at `now`, in seconds since the Unix epoch. Whatever can be
    /// refused without opening the row is refused here.
    ///
    /// # Errors
    /// Those of [`AuthenticatedRequest::parse`]; [`Code::BodyTooLarge`];
    /// [`Code::TimestampOutOfWindow`]; [`Code::ProtocolViolation`] and [`Code::SealedRowRefused`]
    /// for a row that is none or another key's.
    pub fn parse(request: &[u8], row: &[u8], now: u64) -> Result<Self, Rejection> {
        let request = AuthenticatedRequest::parse(request)?;
        cloister_runtime::record_key(request.key_id);
        if request.payload.len() > MAX_BODY_LEN {
            return Err(Rejection::new(
                Code::BodyTooLarge,
                "the payload is too large",
            ));
        }
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

    /// Authenticates, signs and writes the answer as JSON.
    ///
    /// # Errors
    /// Those of [`authenticate`] and [`sign`].
    pub fn answer(&self, opened: &OpenedRow, failures: &Failures) -> Result<Vec<u8>, Rejection> {
        let signed = sign(&authenticate(&self.request, opened, failures)?)?;
        Ok(serde_json::to_vec(&signed).expect("strings only"))
    }
}

/// A row as the pod hands it over.
pub(crate) fn read_row(row: &[u8]) -> Result<SealedRow, Rejection> {
    serde_json::from_slice(row)
        .map_err(|_| Rejection::new(Code::ProtocolViolation, "the pod sent a malformed row"))
}
