#![doc = include_str!("../README.md")]

mod canary;
mod error;
mod generate_key;
mod handler;
mod import_key;
mod verified_store;
mod wallet_key;

pub use error::GeneratorError;
pub use handler::KeyGenerator;

use cloister_runtime::{Boot, BootError};

/// Runs a key generator until it is shut down.
///
/// # Errors
/// [`BootError`] if it cannot start.
pub async fn run(boot: Boot) -> Result<(), BootError> {
    cloister_runtime::run(boot, KeyGenerator::new).await
}
