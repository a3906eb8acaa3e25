#![doc = include_str!("../README.md")]

mod authenticate;
mod ciphertext;
mod enveloped;
mod error;
mod faults;
mod files;
mod keys;
mod operation;
mod principals;
mod recipient;
mod server;
mod unsigned;

pub use server::{Clock, LocalKms, Options, StartError};
