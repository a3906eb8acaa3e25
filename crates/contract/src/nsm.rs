//! Names under which the Nitro Secure Module (NSM) appears.

/// Prefix of the module id of an emulated NSM; a real module's is `i-…-enc…`.
pub const EMULATOR_MODULE_ID_PREFIX: &str = "emulator-";
/// File with the name of the kernel's hardware random number generator. See
/// Documentation/admin-guide/hw_random.rst of the kernel.
pub const RNG_CURRENT_PATH: &str = "/sys/class/misc/hw_random/rng_current";
/// Name of the random number generator that the kernel's NSM driver registers.
pub const RNG_NAME: &str = "nsm-hwrng";
