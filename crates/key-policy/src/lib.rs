#![doc = include_str!("../README.md")]

mod check;
mod condition;
mod evaluate;
mod pcr0;
mod policy;
mod render;
mod strict_json;

pub use check::{CheckedPolicy, Expected, PolicyMismatch, check};
pub use evaluate::{Decision, KmsRequest, evaluate};
pub use pcr0::{InvalidPcr0, Pcr0};
pub use policy::{Policy, PolicyError};
pub use render::{Deployment, Form, Measurements, NextRelease, RenderError, render};
