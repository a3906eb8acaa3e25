//! Authentication of callers: only a request with the MAC of the key's caller becomes one that can
//! be signed.

use std::time::Instant;

use cloister_protocol::payload::SigningPayload;
use cloister_protocol::request::AuthenticatedRequest;
use cloister_protocol::{Code, Rejection};
use cloister_sealing::OpenedRow;

use crate::failures::Failures;

/// A payload from the caller of the key. Only [`authenticate`] makes one.
#[derive(Debug)]
pub struct Authenticated<'a> {
    row: &'a OpenedRow,
    payload: SigningPayload,
}

impl<'a> Authenticated<'a> {
    /// The row of the key to sign with.
    pub fn row(&self) -> &'a OpenedRow {
        self.row
    }

    /// The payload to sign.
    pub fn payload(&self) -> &SigningPayload {
        &self.payload
    }
}

/// Checks the MAC of `request` against the verifier in the row, in constant time, and then reads
/// the payload.
///
/// Failures are counted, successes are not: a guesser gets another code, and a caller with the
/// right secret is served however often others have failed.
///
/// # Errors
/// [`Code::AuthenticationFailed`], or [`Code::TooManyFailures`] after many failures for this key;
/// a rejection of the payload.
pub fn authenticate<'a>(
    request: &AuthenticatedRequest,
    row: &'a OpenedRow,
    failures: &Failures,
) -> Result<Authenticated<'a>, Rejection> {
    let verified = request.verify(row.verifier()).map_err(|failed| {
        if failures.add(request.key_id, Instant::now()) {
            Rejection::new(
                Code::TooManyFailures,
                "the secret does not belong to this key, and neither did those of many requests before",
            )
        } else {
            failed
        }
    })?;
    Ok(Authenticated {
        row,
        payload: verified.parse()?,
    })
}
