//! The `cloister` program as its users run it: a process, its arguments, its output and its exit
//! code.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

mod account;
mod doctor;
mod key_policy;
mod keys;
mod program;
mod rehearsal;
