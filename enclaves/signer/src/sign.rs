//! Signs authenticated payloads, each kind under its own permission.

mod eip1559;
mod user_op;

use cloister_protocol::message::Signed;
use cloister_protocol::payload::SigningPayload;
use cloister_protocol::{Code, Rejection};
use cloister_sealing::{Capability, OpenedRow};

use crate::authentication::Authenticated;

/// Signs an authenticated payload, if the key may sign its kind.
///
/// # Errors
/// [`Code::NotPermitted`]; [`Code::InvalidField`] for a sender that is not this key;
/// [`Code::SealedRowRefused`] if the key does not belong to the row's address; [`Code::Internal`]
/// if the finished signature is not the requested one. The signature is dropped in both cases.
pub fn sign(request: &Authenticated<'_>) -> Result<Signed, Rejection> {
    let row = request.row();
    match request.payload() {
        SigningPayload::Transaction(transaction) => {
            permit(row, Capability::Transaction)?;
            eip1559::sign(row, transaction)
        }
        SigningPayload::UserOpHash(hash) => {
            permit(row, Capability::UserOpHash)?;
            user_op::sign(row, hash)
        }
    }
}

fn permit(row: &OpenedRow, capability: Capability) -> Result<(), Rejection> {
    if row.capabilities().contains(capability) {
        Ok(())
    } else {
        Err(Rejection::new(
            Code::NotPermitted,
            "this key may not sign this kind of payload",
        ))
    }
}
