//! The whole system, from a caller's signed request to the sealed row: the same stack a person runs
//! with `cargo local up`.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

mod bad_input;
mod cost;
mod credentials;
mod direct_calls;
mod failures;
mod forms;
mod log_scan;
mod memory;
mod readme;
mod requests;
mod restart;
mod second_implementation;
mod strangers;
mod up;
mod update;
