//! The local KMS, called through the AWS SDK over TLS, with documents of the software NSM.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

mod attested;
mod deployment;
mod faults;
mod lifecycle;
mod policies;
mod process;
mod setup;
mod signatures;
mod unsigned;
