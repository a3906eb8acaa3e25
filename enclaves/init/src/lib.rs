#![doc = include_str!("../README.md")]

mod application;
mod boot;
mod boot_key;
mod child;
mod clock;
mod command_line;
mod end;
mod entropy;
mod error;
mod log;
mod loopback;
mod mounts;
mod parent;
pub mod sandbox;
mod usage;
mod volume;

pub use boot::boot;
pub use command_line::{CommandLine, Export, InvalidCommandLine};
pub use error::{BootError, VolumeError};
pub use log::write_failure;
