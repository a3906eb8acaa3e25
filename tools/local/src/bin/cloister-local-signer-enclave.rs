//! The signer's enclave as a process of this machine.

use clap::Parser as _;
use cloister_local::enclave::Arguments;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    cloister_runtime::start_logging();
    cloister_signer::run(Arguments::parse().boot()?).await?;
    Ok(())
}
