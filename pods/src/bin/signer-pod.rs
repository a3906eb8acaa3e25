//! The pod of the signer's enclave.

use std::process::ExitCode;

use clap::Parser as _;
use cloister_keystore::DynamoDb;
use cloister_pods::{AwsClients, PodError, Signer, SignerConfig, log_as_json, run, terminated};

#[tokio::main]
async fn main() -> ExitCode {
    let config = SignerConfig::parse();
    log_as_json(config.pod.log);
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error.chain(), "the pod cannot run");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: SignerConfig) -> Result<(), PodError> {
    let aws = AwsClients::load(&config.pod).await?;
    let signer = Signer::new(DynamoDb::new(aws.dynamodb, config.table_arn));
    run(config.pod, signer, aws.credentials, terminated()?).await
}
