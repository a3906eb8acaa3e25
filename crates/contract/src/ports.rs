//! Ports of enclaves, their parent and the pods.

/// Vsock port on which an enclave accepts requests from its pod.
pub const REQUESTS: u32 = 5000;
/// Vsock port on which an enclave's init serves the log.
pub const LOG: u32 = 5001;
/// Vsock context id of the parent of every Nitro enclave.
pub const PARENT_CID: u32 = 3;
/// Vsock port of the parent on which nitro-cli waits for the heartbeat of a booting enclave.
pub const HEARTBEAT: u32 = 9000;
/// The heartbeat: init sends this byte and the parent returns it.
pub const HEARTBEAT_BYTE: u8 = 0xb7;
/// TCP port on which a pod serves the front door (HTTPS).
pub const POD_HTTPS: u16 = 8443;
/// TCP port on which a pod serves health, readiness and version (HTTP).
pub const POD_HEALTH: u16 = 8080;
