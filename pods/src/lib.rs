#![doc = include_str!("../README.md")]

mod aws;
mod backoff;
mod config;
mod enclave;
mod error;
mod front_door_keys;
mod http;
mod key_generator;
mod key_probe;
mod logging;
mod pod;
mod service;
mod signals;
mod signer;

pub use aws::AwsClients;
pub use config::{Config, EnclaveConfig, KeyGeneratorConfig, SignerConfig};
pub use enclave::driver::{Console, DriverError, EnclaveDriver, Launch};
pub use enclave::metrics::MetricsConfig;
pub use enclave::nitro_cli::NitroCli;
pub use error::PodError;
pub use front_door_keys::FrontDoorKeySource;
pub use http::relay::Relay;
pub use key_generator::KeyGenerator;
pub use key_probe::KeyProbe;
pub use logging::{log_as_json, report_failure};
pub use pod::Pod;
pub use service::PodService;
pub use signals::shutdown_on_signal;
pub use signer::Signer;
