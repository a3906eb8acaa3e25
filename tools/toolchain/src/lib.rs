#![doc = include_str!("../README.md")]

pub mod aws;
pub mod cache;
pub mod cargo;
pub mod command;
pub mod debian;
mod digest;
mod download;
pub mod node;
pub mod python;

pub use digest::{sha256, sha256_of_file, sha256_of_tree};
pub use download::Pinned;
