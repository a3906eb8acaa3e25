#![doc = include_str!("../README.md")]

mod error;
pub mod faults;
pub mod files;
pub mod https;
pub mod principals;
pub mod process;
pub mod sigv4;

pub use error::StandInError;
