//! The pod of the key generator's enclave.

use std::process::ExitCode;

use clap::Parser as _;
use cloister_pods::{
    AwsClients, KeyGenerator, KeyGeneratorConfig, PodError, log_as_json, run, terminated,
};

#[tokio::main]
async fn main() -> ExitCode {
    let config = KeyGeneratorConfig::parse();
    log_as_json(config.pod.log);
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error.chain(), "the pod cannot run");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: KeyGeneratorConfig) -> Result<(), PodError> {
    let aws = AwsClients::load(&config.pod).await?;
    run(config.pod, KeyGenerator, aws.credentials, terminated()?).await
}
