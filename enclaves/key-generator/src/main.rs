//! The key generator inside a Nitro enclave.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    cloister_runtime::start_logging();
    cloister_key_generator::run(cloister_runtime::nitro::boot()?).await?;
    Ok(())
}
