//! The pod of the key generator's enclave.

use std::process::ExitCode;

use clap::Parser as _;
use cloister_pods::{
    AwsClients, KeyGenerator, KeyGeneratorConfig, KeyProbe, Pod, PodError, log_as_json,
    report_failure, shutdown_on_signal,
};

#[tokio::main]
async fn main() -> ExitCode {
    let config = KeyGeneratorConfig::parse();
    log_as_json(config.pod.log);
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report_failure(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(config: KeyGeneratorConfig) -> Result<(), PodError> {
    let shutdown = shutdown_on_signal()?;
    let aws = AwsClients::load(&config.pod).await?;
    let keys = aws.front_door_keys(&config.pod)?;
    let probe = KeyProbe::configured(&config, aws.kms);
    let pod = Pod::new(config.pod, KeyGenerator, aws.credentials, keys)?;
    if let Some(probe) = probe {
        // A task of its own, which ends with the program: requests do not depend on it.
        tokio::spawn(probe.run());
    }
    pod.run(shutdown).await
}
