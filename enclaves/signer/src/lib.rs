#![doc = include_str!("../README.md")]

mod authentication;
mod failures;
mod handler;
mod sign;
mod sign_transaction;

pub use authentication::{Authenticated, authenticate};
pub use failures::Failures;
pub use handler::Signer;
pub use sign::sign;
pub use sign_transaction::PendingSignature;

use cloister_runtime::{Boot, BootError};

/// Runs a signer until it is shut down.
///
/// # Errors
/// [`BootError`] if it cannot start.
pub async fn run(boot: Boot) -> Result<(), BootError> {
    cloister_runtime::run(boot, Signer::new).await
}
