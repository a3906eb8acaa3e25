#![doc = include_str!("../README.md")]

mod client;
mod credentials;
mod error;
mod operations;
mod response;

pub use client::{Client, Scope, is_loopback};
pub use credentials::Credentials;
pub use error::{ClientError, Refusal};
pub use operations::{CreatedKey, Health, ServiceHealth, SignedTransaction};
pub use response::Response;
