//! NSM errors.

use std::io;

/// A failed request to the NSM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NsmError {
    /// A claim is too long for some verifiers, or an empty public key.
    #[error(
        "{claim} of {len} bytes; at most {max} fit an attestation document, and a public key is not empty"
    )]
    ClaimLength {
        /// The claim's name in the document.
        claim: &'static str,
        /// Its length in bytes.
        len: usize,
        /// Its largest length in bytes.
        max: usize,
    },

    /// The device is missing: not an enclave, or a kernel without the driver.
    #[error("cannot open {path}")]
    Open {
        /// The device file.
        path: &'static str,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The module refused.
    #[error("the NSM refused: {0}")]
    Refused(Refusal),
    /// The module answered something else than was asked.
    #[error("the NSM answered {operation} with something else")]
    UnexpectedAnswer {
        /// The requested operation.
        operation: &'static str,
    },
    /// A register does not have the length of SHA-384.
    #[error("the NSM returned a register of {len} bytes, not 48")]
    RegisterLength {
        /// Its length in bytes.
        len: usize,
    },
    /// A document that does not say when it was made.
    #[error("the NSM's attestation document carries no plausible time")]
    NoTime,

    /// Too few bytes in one answer to tell that they are random.
    #[error("the NSM returned {len} random bytes at once; fewer than {min} prove nothing", min = crate::MIN_CHUNK_LEN)]
    ShortRandom {
        /// In bytes.
        len: usize,
    },
    /// One byte over and over.
    #[error("the NSM returned the same byte over and over instead of random ones")]
    ConstantRandom,
}

/// The module's own reasons to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An argument is invalid.
    #[error("an argument is invalid")]
    InvalidArgument,
    /// Unknown register.
    #[error("no such register")]
    InvalidIndex,
    /// The answer belongs to another request.
    #[error("the answer belongs to another request")]
    InvalidResponse,
    /// The register is locked.
    #[error("the register is locked")]
    ReadOnlyIndex,
    /// The module cannot do that.
    #[error("the operation is not available")]
    InvalidOperation,
    /// The answer does not fit the buffer.
    #[error("the answer does not fit the buffer")]
    BufferTooSmall,
    /// The request is too large.
    #[error("the request is too large")]
    InputTooLarge,
    /// Anything else, on the device's side or the driver's.
    #[error("internal error")]
    Internal,
}

impl From<Refusal> for NsmError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
