//! Both enclaves from boot to a signature: real sockets, the pod's way out, a KMS that verifies
//! attestation documents and enforces the key policy. Only the table is a map in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod account;
mod enclave;
mod keys;
mod log;
mod rows;
mod state;
