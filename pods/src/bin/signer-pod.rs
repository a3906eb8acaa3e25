//! The pod of the signer's enclave.

use std::process::ExitCode;

use clap::Parser as _;
use cloister_keystore::DynamoDb;
use cloister_pods::{
    AwsClients, Pod, PodError, Signer, SignerConfig, log_as_json, report_failure,
    shutdown_on_signal,
};

#[tokio::main]
async fn main() -> ExitCode {
    let config = SignerConfig::parse();
    log_as_json(config.pod.log);
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report_failure(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(config: SignerConfig) -> Result<(), PodError> {
    let shutdown = shutdown_on_signal()?;
    let aws = AwsClients::load(&config.pod).await?;
    let keys = aws.front_door_keys(&config.pod)?;
    let signer = Signer::new(DynamoDb::new(aws.dynamodb, config.table_arn));
    let pod = Pod::new(config.pod, signer, aws.credentials, keys)?;
    pod.run(shutdown).await
}
