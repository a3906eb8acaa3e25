#![doc = include_str!("../README.md")]

mod claims;
mod description;
mod device;
mod error;
mod module;
mod random;
mod time;

pub use claims::{Claims, MAX_NONCE_LEN, MAX_PUBLIC_KEY_LEN, MAX_USER_DATA_LEN};
pub use description::{Description, Digest, Pcr};
pub use device::Device;
pub use error::{NsmError, Refusal};
pub use module::Nsm;
pub use random::{MIN_CHUNK_LEN, fill_random};
pub use time::time;
