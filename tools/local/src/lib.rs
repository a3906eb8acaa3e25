#![doc = include_str!("../README.md")]

mod administrator;
pub mod chain;
pub mod child;
pub mod contracts;
pub mod data_dir;
pub mod demo;
pub mod emulator;
pub mod enclave;
pub mod endpoint;
pub mod gateway;
pub mod identity;
pub mod packages;
pub mod part;
pub mod pki;
pub mod progress;
mod ready;
mod settings;
pub mod stack;
pub mod table;
pub mod user_operation;

pub use cloister_contract::Service;
pub use ready::Addresses;
