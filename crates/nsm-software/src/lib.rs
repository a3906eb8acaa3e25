#![doc = include_str!("../README.md")]

mod document;
mod error;
mod leaf;
mod module;
mod pki;
mod registers;

pub use error::SoftwareNsmError;
pub use module::SoftwareNsm;
pub use pki::Pki;
