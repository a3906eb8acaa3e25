//! The key generator's enclave as a process of this machine.

use clap::Parser as _;
use cloister_local::enclave::Arguments;

#[global_allocator]
static ALLOCATOR: cloister_runtime::Allocator = cloister_runtime::ALLOCATOR;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    cloister_runtime::start_logging();
    cloister_key_generator::run(Arguments::parse().boot()?).await?;
    Ok(())
}
