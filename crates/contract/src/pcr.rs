//! Platform configuration registers (PCRs) of the NSM.
//!
//! The hypervisor fills and locks 0 to 15; see
//! <https://docs.aws.amazon.com/enclaves/latest/user/set-up-attestation.html>.

/// The whole image.
pub const IMAGE: u16 = 0;
/// The kernel, its command line and the first ramdisk.
pub const KERNEL: u16 = 1;
/// The other ramdisks: the application.
pub const APPLICATION: u16 = 2;
/// The IAM role of the parent instance.
pub const INSTANCE_ROLE: u16 = 3;
/// The id of the parent instance.
pub const INSTANCE_ID: u16 = 4;
/// The certificate that signed the image.
pub const SIGNING_CERTIFICATE: u16 = 8;
/// The public half of the boot key, extended by init. The first register that is not the
/// hypervisor's.
pub const BOOT_KEY: u16 = 16;
