//! What is signed, once it is known who asks: each kind of payload under its own permission.

mod eip1559;
mod user_op;

use cloister_protocol::message::Signed;
use cloister_protocol::payload::SigningPayload;
use cloister_protocol::{Code, Rejection};
use cloister_sealing::{Capability, OpenedRow};

use crate::authentication::Authenticated;

/// Signs what an authenticated caller asked for, if the key may sign that kind of payload.
///
/// # Errors
/// [`Code::NotPermitted`]; [`Code::InvalidField`] for a sender that is not this key;
/// [`Code::Internal`] when the finished signature is not the one that was asked for, in which case
/// it is dropped.
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
