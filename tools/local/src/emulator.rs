//! Enclaves in QEMU's `nitro-enclave` machine: the images that a deployment runs, measured by the
//! machine itself, with an emulated NSM and vsock. The NSM's documents are unsigned and accepted by
//! the local KMS only, on request.

mod driver;
mod images;
mod machine;
mod parent;
mod tools;

pub use driver::Emulator;
pub use images::Images;
pub use machine::Machine;
pub use tools::Tools;
