#![doc = include_str!("../README.md")]

mod birth;
mod canary;
mod create;
mod error;
mod handler;
mod vault;

pub use error::GeneratorError;
pub use handler::KeyGenerator;

use cloister_runtime::{Boot, BootError};

/// Runs a key generator until it is shut down.
///
/// # Errors
/// [`BootError`] when it cannot start.
pub async fn run(boot: Boot) -> Result<(), BootError> {
    cloister_runtime::run(boot, KeyGenerator::new).await
}
