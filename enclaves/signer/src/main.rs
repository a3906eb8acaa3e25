//! The signer inside a Nitro enclave.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: cloister_runtime::Allocator = cloister_runtime::ALLOCATOR;

#[tokio::main]
async fn main() -> ExitCode {
    cloister_runtime::nitro::main(cloister_signer::run).await
}
