#![doc = include_str!("../README.md")]

mod check;
mod condition;
mod deployment;
mod error;
mod evaluate;
mod pcr0;
mod policy;
mod render;
mod strict_json;
mod values;

pub use check::{CheckedPolicy, Expected, PolicyMismatch, check};
pub use deployment::{Deployment, Form, Measurements, NextRelease};
pub use error::{PolicyError, RenderError};
pub use evaluate::{Decision, KmsRequest, evaluate};
pub use pcr0::{InvalidPcr0, Pcr0};
pub use policy::Policy;
pub use render::render;
