#![doc = include_str!("../README.md")]

mod aws;
mod boot_key;
mod boot_proofs;
mod egress;
mod entropy;
#[cfg(test)]
mod fake_nsm;
mod logging;
pub mod nitro;
mod nsm_queue;
mod platform;
mod state;
mod wipe;

pub use aws::{Aws, CurrentCredentials};
pub use boot_key::BootKeyError;
pub use cloister_settings::{Settings, SettingsError};
pub use egress::EgressHttpClient;
pub use entropy::{Entropy, EntropyError};
pub use logging::{record_key, start as start_logging};
pub use nsm_queue::{NsmQueue, Priority};
pub use platform::{Boot, BootError, Platform, run};
pub use state::EnclaveState;
pub use wipe::{ALLOCATOR, Allocator};
