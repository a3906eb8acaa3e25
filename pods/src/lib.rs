#![doc = include_str!("../README.md")]

mod admin;
mod aws;
mod config;
mod driver;
mod enclave_health;
mod enclave_log;
mod error;
mod exchange;
mod image;
mod key_generator;
mod lifecycle;
mod log;
mod metrics;
mod nitro_cli;
mod pauses;
mod presence;
mod relay;
mod run;
mod signer;
mod supervisor;
mod tls;

pub use aws::AwsClients;
pub use config::{Config, EnclaveConfig, KeyGeneratorConfig, SignerConfig};
pub use driver::{Console, DriverError, EnclaveDriver, Launch};
pub use error::PodError;
pub use key_generator::KeyGenerator;
pub use log::log_as_json;
pub use metrics::MetricsConfig;
pub use nitro_cli::NitroCli;
pub use relay::Relay;
pub use run::{Service, run, run_with_driver, terminated};
pub use signer::Signer;
