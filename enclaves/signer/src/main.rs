//! The signer inside a Nitro enclave.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    cloister_runtime::start_logging();
    cloister_signer::run(cloister_runtime::nitro::boot()?).await?;
    Ok(())
}
