#![doc = include_str!("../README.md")]

pub mod answer;
pub mod command;
pub mod event;
pub mod front_door;
pub mod pods;
pub mod route;
pub mod settings;

pub use front_door::FrontDoor;
pub use pods::Pods;
pub use settings::{PodCa, Settings, SettingsError};
