//! Documents that `verify` accepts and refuses. `a1` to `a6` are the numbers of the checklist in the
//! README.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod a1_envelope;
mod a1_payload;
mod a2_chain;
mod a3_registers;
mod a4_freshness;
mod a5_binding;
mod a6_roots;
mod forge;
mod properties;
mod software_nsm;
mod vectors;
