//! The pod's enclave: starting, watching and configuring it.

pub(crate) mod driver;
pub(crate) mod health;
pub(crate) mod image;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod nitro_cli;
pub(crate) mod readiness;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod supervisor;
