//! cloister-local

pub mod gateway;
