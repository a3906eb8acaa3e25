//! Errors of the software NSM.

/// A [`Pki`](crate::Pki) or a [`SoftwareNsm`](crate::SoftwareNsm) that was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SoftwareNsmError {
    /// A key or certificate cannot be made.
    #[error("cannot make {what}")]
    Pki {
        /// The key or certificate.
        what: &'static str,
        /// The library's error.
        #[source]
        source: rcgen::Error,
    },
    /// The PEM text does not hold exactly one certificate and one private key.
    #[error("the PEM text does not hold {0}")]
    Pem(&'static str),
    /// The certificate and the private key of the PEM text do not belong together, or it is not a
    /// root of this crate.
    #[error("the certificate is not a software NSM's root with this key")]
    ForeignRoot,
    /// A signing key cannot be used.
    #[error("the signing key is rejected")]
    Key(#[source] aws_lc_rs::error::KeyRejected),
    /// Failed to get randomness from the kernel.
    #[error("failed to get randomness from the kernel")]
    Random(#[source] getrandom::Error),
    /// The boot key of this module exists, or the cryptographic library made none.
    #[error("failed to generate a boot key")]
    BootKey,
    /// A register that is not set at the start.
    #[error("PCR{0} cannot be given: only PCR0 to PCR15 are measured before an enclave starts")]
    Register(u16),
}
