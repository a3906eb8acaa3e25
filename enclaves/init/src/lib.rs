#![doc = include_str!("../README.md")]

mod application;
mod boot;
mod boot_key;
mod clock;
mod command_line;
mod entropy;
pub mod log;
mod loopback;
mod mounts;
mod parent;
pub mod sandbox;
mod usage;
mod volume;

pub use boot::{BootError, boot};
pub use command_line::{CommandLine, Export, InvalidCommandLine};
pub use volume::VolumeError;
