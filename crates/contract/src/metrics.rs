//! CloudWatch metrics that the pods publish.

/// Namespace.
pub const NAMESPACE: &str = "NitroEnclave";
/// CPU time of an enclave in user mode, in percent.
pub const CPU_USER: &str = "enclave_cpu_utilization_user";
/// CPU time of an enclave in its kernel, in percent.
pub const CPU_SYSTEM: &str = "enclave_cpu_utilization_system";
/// Memory of an enclave that applications cannot allocate, in percent.
pub const MEMORY_USED: &str = "enclave_memory_utilization_used";
/// Page cache of an enclave, in percent of its memory.
pub const MEMORY_CACHED: &str = "enclave_memory_utilization_cached";
