#![doc = include_str!("../README.md")]

mod cbor;
mod certificate;
mod chain;
mod cose;
mod document;
mod error;
mod expectations;
mod root;
mod verify;

pub use error::{AttestationError, CborError, ChainError, Malformed, Misuse, Position, Unexpected};
pub use expectations::{ALLOWED_SKEW, DebugMode, Expectations, LIVE_MAX_AGE, MIN_NONCE_LEN};
pub use root::TrustRoot;
pub use verify::{MAX_DOCUMENT_LEN, VerifiedDocument, document_time, verify};

// The time at which a document is judged is part of the interface.
pub use rustls_pki_types::UnixTime;
