#![doc = include_str!("../README.md")]

pub mod enclave_log;
pub mod events;
pub mod metrics;
pub mod nsm;
pub mod pcr;
pub mod ports;

mod architecture;
mod arn;
mod error_chain;
mod request_id;
mod service;
mod syntax;

pub use architecture::{Architecture, UnknownArchitecture};
pub use arn::{AccountId, Arn, InvalidArn, Region};
pub use error_chain::ErrorChain;
pub use request_id::RequestId;
pub use service::{Service, UnknownService};
pub use syntax::InvalidText;
