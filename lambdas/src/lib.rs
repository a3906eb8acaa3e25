#![doc = include_str!("../README.md")]

mod answer;
mod command;
mod error;
mod event;
mod front_door;
mod health;
mod path;
mod pods;
mod settings;

pub use error::{PodsError, SettingsError};
pub use front_door::FrontDoor;
pub use pods::Pods;
pub use settings::{PodCa, Settings};
