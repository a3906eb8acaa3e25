#![doc = include_str!("../README.md")]

mod authenticate;
mod blob;
mod ciphertext;
mod error;
mod keys;
mod operation;
mod recipient;
mod server;
mod unsigned;

pub use cloister_stand_in::https;
pub use server::{Clock, LocalKms, Options};
