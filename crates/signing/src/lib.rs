#![doc = include_str!("../README.md")]

mod address;
mod sign;

pub use address::address;
pub use sign::{RecoverableSignature, SigningError, sign_prehash};
