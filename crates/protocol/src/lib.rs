#![doc = include_str!("../README.md")]

pub mod authentication;
pub mod error;
pub mod frame;
pub mod front_door;
mod hex;
pub mod json;
pub mod key_id;
pub mod limits;
pub mod message;
pub mod payload;
pub mod request;
pub mod row;
pub mod secret;

pub use authentication::Verifier;
pub use error::{Code, Rejection};
pub use key_id::KeyId;
pub use message::Operation;
pub use row::SealedRow;
pub use secret::{CallerSecret, FrontDoorKey, PrivateKey, Redacted, SessionValue};
