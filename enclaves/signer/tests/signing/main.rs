//! The signer from request bytes to response bytes, without KMS: the data key is made by the test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod fixture;
mod log;
mod properties;
mod refusals;
mod vectors;
