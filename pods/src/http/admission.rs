//! The admission of a request.

use cloister_transport::Charge;
use tokio::sync::OwnedSemaphorePermit;

/// A request's place in the queue and its memory, held until its response has been written.
#[derive(Debug)]
pub(crate) struct Admission {
    _place: OwnedSemaphorePermit,
    _charge: Charge,
}

impl Admission {
    pub(crate) fn new(place: OwnedSemaphorePermit, charge: Charge) -> Self {
        Self {
            _place: place,
            _charge: charge,
        }
    }
}
