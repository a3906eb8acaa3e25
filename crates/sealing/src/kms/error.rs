//! KMS errors.

use cloister_aws_calls::CallFailure;
use cloister_protocol::{Code, Rejection};

/// A data key that KMS did not release. AWS error messages are neither included nor logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KmsError {
    /// KMS refuses this enclave, its role, or the state of the key.
    #[error("KMS refuses this enclave")]
    Denied,
    /// KMS was not reached, did not answer in time, or failed.
    #[error("KMS is unavailable")]
    Unavailable,
    /// KMS throttles.
    #[error("KMS throttles")]
    Throttled,
    /// The clock of KMS and the enclave's differ by more than KMS accepts.
    #[error("KMS refuses the time of the request")]
    ClockSkewed,
    /// The credentials that the pod pushed have expired.
    #[error("the credentials have expired")]
    CredentialsExpired,
    /// KMS does not recognise the wrapped data key under this CMK and context: the row was sealed
    /// elsewhere.
    #[error("KMS does not recognise the wrapped data key")]
    UnknownDataKey,
    /// A reply that an attested call must not get; the text names the fault.
    #[error("unexpected KMS reply to an attested call: {0}")]
    ReplyRefused(&'static str),
    /// No attestation document.
    #[error("the enclave failed to attest itself")]
    Attestation,
}

impl From<KmsError> for Rejection {
    fn from(error: KmsError) -> Self {
        match error {
            KmsError::Denied => Self::new(Code::KmsDenied, "KMS refuses this enclave"),
            KmsError::Unavailable
            | KmsError::Throttled
            | KmsError::ClockSkewed
            | KmsError::CredentialsExpired => {
                Self::new(Code::KmsUnavailable, "KMS is unavailable at the moment")
            }
            KmsError::UnknownDataKey => Self::new(
                Code::SealedRowRefused,
                "the sealed row is damaged or belongs to another key",
            ),
            KmsError::ReplyRefused(_) => {
                Self::new(Code::KmsReplyRefused, "the reply of KMS was refused")
            }
            KmsError::Attestation => {
                Self::new(Code::Internal, "the enclave failed to attest itself")
            }
        }
    }
}

impl From<CallFailure> for KmsError {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::Throttled => Self::Throttled,
            CallFailure::ClockSkewed => Self::ClockSkewed,
            CallFailure::CredentialsExpired => Self::CredentialsExpired,
            CallFailure::NotAReply => Self::ReplyRefused("not a reply"),
            CallFailure::Unavailable => Self::Unavailable,
            CallFailure::Refused => Self::Denied,
        }
    }
}
