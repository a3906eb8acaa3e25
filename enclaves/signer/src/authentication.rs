//! Who asks: only a request that carries the MAC of the key's caller becomes something that can be
//! signed.

use std::time::Instant;

use cloister_protocol::authentication::Route;
use cloister_protocol::payload::SigningPayload;
use cloister_protocol::request::AuthenticatedRequest;
use cloister_protocol::{Code, Rejection};
use cloister_sealing::OpenedRow;

use crate::failures::Failures;

/// A payload whose caller has shown to be the one that the key belongs to. Only [`authenticate`]
/// makes one.
#[derive(Debug)]
pub struct Authenticated<'a> {
    row: &'a OpenedRow,
    payload: SigningPayload,
}

impl<'a> Authenticated<'a> {
    /// The key to sign with.
    pub fn row(&self) -> &'a OpenedRow {
        self.row
    }

    /// What to sign.
    pub fn payload(&self) -> &SigningPayload {
        &self.payload
    }
}

/// Checks the MAC of `request` against the verifier in the row, in constant time.
///
/// Failures are counted, never successes: whoever guesses is told to wait, but a caller who knows
/// the secret is served however often others have failed.
///
/// # Errors
/// [`Code::AuthenticationFailed`]; [`Code::TooManyFailures`] instead when there were many of late
/// for this key.
pub fn authenticate<'a>(
    request: &AuthenticatedRequest,
    row: &'a OpenedRow,
    failures: &Failures,
) -> Result<Authenticated<'a>, Rejection> {
    let AuthenticatedRequest {
        payload,
        key_id,
        timestamp,
        mac,
    } = request;
    row.verifier()
        .check(
            Route::SignTransaction,
            *key_id,
            *timestamp,
            payload.as_bytes(),
            mac,
        )
        .map_err(|failed| {
            if failures.add(*key_id, Instant::now()) {
                Rejection::new(
                    Code::TooManyFailures,
                    "too many requests with a wrong secret for this key; wait a minute",
                )
            } else {
                failed
            }
        })?;
    Ok(Authenticated {
        row,
        payload: request.signing_payload()?,
    })
}
