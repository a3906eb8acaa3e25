//! The pod's two HTTP servers.

pub(crate) mod admin;
pub(crate) mod admission;
pub(crate) mod authentication;
pub(crate) mod connections;
pub(crate) mod exchange;
pub(crate) mod health;
pub(crate) mod listen;
pub(crate) mod relay;
pub(crate) mod tls;
