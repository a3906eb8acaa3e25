//! Verification errors, grouped by the party at fault.

use std::fmt;
use std::time::Duration;

use x509_cert::der;

/// A document that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestationError {
    /// The bytes are not an attestation document.
    #[error("not an attestation document")]
    Malformed(#[from] Malformed),
    /// The certificates do not lead from the trusted root to the signer at the chosen time.
    #[error("the certificates are not trusted")]
    Untrusted(#[from] ChainError),
    /// The document was not signed by the key of its certificate, or was changed since.
    #[error("the signature is wrong")]
    BadSignature,
    /// A genuine document with other values than the expected ones.
    #[error("the document does not match the expectations")]
    Unexpected(#[from] Unexpected),
    /// The caller expects something that would prove nothing.
    #[error("the expectations prove nothing")]
    Misuse(#[from] Misuse),
}

/// Bytes that are not an attestation document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Longer than any document.
    #[error("{len} bytes; no document has more than {max}", max = crate::MAX_DOCUMENT_LEN)]
    TooLong {
        /// In bytes.
        len: usize,
    },
    /// Invalid CBOR, or another item than the specified one.
    #[error("failed to parse {part}")]
    Cbor {
        /// The envelope, a header, the payload or the name of one of its members.
        part: &'static str,
        /// The cause.
        #[source]
        source: CborError,
    },
    /// The envelope does not have four parts.
    #[error("not a COSE_Sign1")]
    NotSign1,
    /// The unprotected header is not empty.
    #[error("the unprotected header is not empty")]
    UnprotectedHeader,
    /// The protected header is not `alg: ES384` alone.
    #[error("the protected header is not ES384 alone")]
    Algorithm,
    /// An ES384 signature has 96 bytes.
    #[error("a signature of {len} bytes, not 96")]
    SignatureLength {
        /// In bytes.
        len: usize,
    },
    /// A member that AWS does not specify.
    #[error("unknown member {name:?}")]
    UnknownMember {
        /// The member's name.
        name: String,
    },
    /// Duplicate member.
    #[error("duplicate member {member}")]
    DuplicateMember {
        /// The member's name.
        member: &'static str,
    },
    /// A document of a NitroTPM: it proves an EC2 instance, not an enclave.
    #[error("a NitroTPM document, not an enclave's: nitrotpm_pcrs in place of pcrs")]
    NitroTpm,
    /// A required member is missing.
    #[error("{member} is missing")]
    MissingMember {
        /// The member's name.
        member: &'static str,
    },
    /// A member has a length that AWS does not allow.
    #[error("{member} has an invalid length: {len} bytes")]
    Length {
        /// The member's name.
        member: &'static str,
        /// In bytes.
        len: usize,
    },
    /// A map or array that needs entries has none.
    #[error("{member} is empty")]
    Empty {
        /// The member's name.
        member: &'static str,
    },
    /// Registers of another hash function.
    #[error("the digest is not SHA384")]
    Digest,
    /// A document without a time.
    #[error("the timestamp is zero")]
    ZeroTimestamp,
    /// A register number above 31.
    #[error("PCR{index} does not exist")]
    PcrIndex {
        /// The register's number.
        index: u64,
    },
    /// A register that is not a SHA-384 value.
    #[error("PCR{index} has {len} bytes, not 48")]
    PcrLength {
        /// The register's number.
        index: u8,
        /// In bytes.
        len: usize,
    },
    /// Duplicate register.
    #[error("duplicate PCR{index}")]
    DuplicatePcr {
        /// The register's number.
        index: u8,
    },
    /// More certificates than any chain of AWS's.
    #[error("too many certificates in the bundle")]
    BundleLength,
}

/// An invalid CBOR item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// The input ends within an item.
    #[error("the input ends too early")]
    Truncated,
    /// Bytes after the last item.
    #[error("{len} bytes too many")]
    TrailingBytes {
        /// In bytes.
        len: usize,
    },
    /// Another item than the expected one.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A first byte that RFC 8949 reserves.
    #[error("a reserved length")]
    ReservedLength,
    /// A text string that is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
}

/// A certificate chain that is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// No certificate above the signer.
    #[error("the bundle is empty")]
    Empty,
    /// The first certificate of the bundle is not the trusted root.
    #[error("the root with SHA-256 {sha256} is not the trusted one")]
    ForeignRoot {
        /// Of the DER of the root that the document brings, hexadecimal.
        sha256: String,
    },
    /// Not an X.509 certificate, or one with a broken extension.
    #[error("{position} is not a certificate")]
    Encoding {
        /// The certificate.
        position: Position,
        /// The cause.
        #[source]
        source: der::Error,
    },
    /// Its validity begins after the time of the verification.
    #[error("{position} is not valid yet")]
    NotYetValid {
        /// The certificate.
        position: Position,
    },
    /// Its validity ended before the time of the verification.
    #[error("{position} has expired")]
    Expired {
        /// The certificate.
        position: Position,
    },
    /// An authority that is not marked as one, or a signer that is.
    #[error("{position} has the wrong basic constraints")]
    BasicConstraints {
        /// The certificate.
        position: Position,
    },
    /// More authorities below it than it allows.
    #[error("{position} does not allow so long a chain")]
    PathLength {
        /// The certificate.
        position: Position,
    },
    /// An authority that may not sign certificates, or a signer that may not sign anything else.
    #[error("{position} has the wrong key usage")]
    KeyUsage {
        /// The certificate.
        position: Position,
    },
    /// A signer whose key is not on P-384.
    #[error("the key of {position} is not on P-384")]
    PublicKey {
        /// The certificate.
        position: Position,
    },
    /// Names or signatures do not connect, or there is an unknown critical extension.
    #[error("no path from the signer to the root")]
    Path(#[source] webpki::Error),
    /// There is a path, but not through every certificate of the bundle in its order.
    #[error("the bundle is not the path from the root to the signer")]
    NotTheBundle,
}

/// The position of a certificate in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// `certificate`: the signer of the document.
    Signer,
    /// `cabundle[i]`: an authority, the root at 0.
    Bundle(usize),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signer => f.write_str("certificate"),
            Self::Bundle(index) => write!(f, "cabundle[{index}]"),
        }
    }
}

/// A mismatch between a genuine document and the expectations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unexpected {
    /// The enclave runs in debug mode.
    #[error("the enclave is in debug mode: PCR0, PCR1 or PCR2 is zero")]
    DebugMode,
    /// A register has another value or is not listed.
    #[error("PCR{index} does not match the expected value")]
    Pcr {
        /// The register's number.
        index: u8,
    },
    /// The image was signed with another certificate or is unsigned.
    #[error("PCR8 belongs to another signing certificate")]
    SigningCertificate,
    /// The nonce, the user data or the public key is missing or has another value.
    #[error("{member} does not match the expected value")]
    Member {
        /// The member's name.
        member: &'static str,
    },
    /// Older than the caller accepts.
    #[error("document is {age:?} old; at most {max:?} is accepted")]
    TooOld {
        /// At the time of the verification.
        age: Duration,
        /// The caller's limit.
        max: Duration,
    },
    /// Made after the time of the verification.
    #[error("document was made {ahead:?} after the time of the verification")]
    FromTheFuture {
        /// By how much.
        ahead: Duration,
    },
}

/// Expectations that would prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// A nonce that could have been guessed.
    #[error("a nonce of {len} bytes; fewer than {min} prove nothing", min = crate::MIN_NONCE_LEN)]
    ShortNonce {
        /// In bytes.
        len: usize,
    },
    /// Zeros expected as a measurement: every enclave in debug mode has them.
    #[error("PCR{index} is expected to be zero, which every enclave in debug mode reports")]
    ZeroPcr {
        /// The register's number.
        index: u8,
    },
}
