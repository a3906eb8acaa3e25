//! The front door with a pod on loopback, in every request form.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod event;
mod forms;
mod function;
mod pod;
mod refusals;
mod robustness;
mod transport;
