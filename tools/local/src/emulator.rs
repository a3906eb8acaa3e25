//! Enclaves in QEMU's `nitro-enclave` machine: the images that a deployment runs, measured by the
//! machine itself, with an emulated NSM and vsock. Only the NSM's signature is missing; who accepts
//! such documents has to be told to.

mod driver;
mod images;
mod machine;
mod parent;
mod tools;

pub use driver::Emulator;
pub use images::Images;
pub use machine::Machine;
pub use tools::Tools;
