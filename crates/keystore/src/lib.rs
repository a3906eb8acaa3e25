#![doc = include_str!("../README.md")]

mod dynamodb;
mod error;
mod item;
mod store;

pub use dynamodb::DynamoDb;
pub use error::StoreError;
pub use store::{Consistency, KeyStore};
