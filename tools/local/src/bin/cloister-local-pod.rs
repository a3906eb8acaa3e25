//! A pod whose enclave is emulated: the libraries of the pods that ship, with another driver for
//! their enclaves.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cloister_keystore::DynamoDb;
use cloister_local::emulator::{Emulator, Machine, Tools};
use cloister_pods::{
    AwsClients, KeyGenerator, KeyGeneratorConfig, Pod, PodService, Signer, SignerConfig,
    log_as_json, report_failure, shutdown_on_signal,
};
use tokio_util::sync::CancellationToken;

/// A pod whose enclave is emulated.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    machine: Machine,
    #[command(subcommand)]
    service: Service,
}

#[derive(Subcommand)]
enum Service {
    /// The signer's.
    Signer(SignerConfig),
    /// The key generator's.
    KeyGenerator(KeyGeneratorConfig),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { machine, service } = Arguments::parse();
    match serve(machine, service).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report_failure(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn serve(machine: Machine, service: Service) -> anyhow::Result<()> {
    let (Service::Signer(SignerConfig { pod, .. })
    | Service::KeyGenerator(KeyGeneratorConfig { pod, .. })) = &service;
    log_as_json(pod.log);
    let emulator = Emulator::new(Tools::find()?, machine.clone());
    let aws = AwsClients::load(pod).await?;
    let keys = aws.front_door_keys(pod)?;
    let shutdown = shutdown_on_signal()?;
    match service {
        Service::Signer(config) => {
            let signer = Signer::new(DynamoDb::new(aws.dynamodb, config.table_arn));
            let pod = Pod::with_driver(config.pod, emulator, signer, aws.credentials, keys)?;
            run(pod, &machine, shutdown).await
        }
        Service::KeyGenerator(config) => {
            let pod = Pod::with_driver(config.pod, emulator, KeyGenerator, aws.credentials, keys)?;
            run(pod, &machine, shutdown).await
        }
    }
}

async fn run<S: PodService>(
    pod: Pod<S, Emulator>,
    machine: &Machine,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let sessions = machine.write_sessions(pod.session());
    tokio::select! {
        served = pod.run(shutdown) => Ok(served?),
        failed = sessions => failed.map(|never| match never {}),
    }
}
