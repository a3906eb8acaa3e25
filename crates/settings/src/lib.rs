#![doc = include_str!("../README.md")]

mod image;
mod settings;

pub use image::{for_key_generator, for_signer};
pub use settings::{Settings, SettingsError};
