#![doc = include_str!("../README.md")]

mod failure;
mod limits;
mod retry;

pub use failure::{CallFailure, log_failure};
pub use limits::CallLimits;
pub use retry::Retry;
