#![doc = include_str!("../README.md")]

mod admin;
mod aws;
mod config;
mod enclave_health;
mod error;
mod exchange;
mod key_generator;
mod log;
mod relay;
mod run;
mod signer;
mod supervisor;
mod tls;

pub use aws::AwsClients;
pub use config::{Config, KeyGeneratorConfig, SignerConfig};
pub use error::PodError;
pub use key_generator::KeyGenerator;
pub use log::log_as_json;
pub use relay::Relay;
pub use run::{Service, run, terminated};
pub use signer::Signer;
