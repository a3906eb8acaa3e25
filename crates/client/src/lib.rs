#![doc = include_str!("../README.md")]

mod client;
mod credentials;
mod error;
mod operations;
mod response;

pub use client::{Client, Scope};
pub use credentials::Credentials;
pub use error::ClientError;
pub use operations::{CreatedKey, SignedTransaction};
pub use response::{Refusal, Response};
