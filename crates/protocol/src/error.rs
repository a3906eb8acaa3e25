//! What is said when a request is refused: a stable code, the HTTP status that goes with it, and a
//! sentence for a human.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::RETRY_AFTER_SECONDS;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)*) => {
        /// A stable machine-readable reason. Grouped by who has to act: the caller, storage, KMS,
        /// the enclave, us.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as callers see it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The HTTP status of an answer with this code.
            pub fn http_status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }
        }
    };
}

codes! {
    /// The body is not one JSON object.
    MalformedJson = "malformed_json", 400;
    /// A member nobody knows.
    UnknownField = "unknown_field", 400;
    /// A member that is required is missing.
    MissingField = "missing_field", 400;
    /// A member stands twice.
    DuplicateField = "duplicate_field", 400;
    /// A member has a wrong type, form or range.
    InvalidField = "invalid_field", 400;
    /// A transaction type that is not supported.
    UnsupportedTransactionType = "unsupported_transaction_type", 400;
    /// The `operation` of the operation form is not known.
    UnknownOperation = "unknown_operation", 400;
    /// The caller's secret, MAC or signature does not fit this key.
    AuthenticationFailed = "authentication_failed", 403;
    /// The request's timestamp lies outside the window.
    TimestampOutOfWindow = "timestamp_out_of_window", 403;
    /// The key may not sign this kind of payload.
    NotPermitted = "not_permitted", 403;
    /// No key of this id.
    KeyNotFound = "key_not_found", 404;
    /// No such route or method.
    UnknownRoute = "unknown_route", 404;
    /// The row is in the format of the reference deployment and has to be migrated first.
    NotMigrated = "not_migrated", 409;
    /// The row changed since it was read.
    VersionConflict = "version_conflict", 409;
    /// The body is larger than allowed.
    BodyTooLarge = "body_too_large", 413;
    /// The body is compressed.
    UnsupportedContentEncoding = "unsupported_content_encoding", 415;
    /// Too many failed authentications of this key and caller.
    TooManyFailures = "too_many_failures", 429;

    /// The sealed row is damaged, belongs to another key, or was sealed by somebody else.
    SealedRowRefused = "sealed_row_refused", 500;
    /// The table throttles.
    StorageThrottled = "storage_throttled", 503;
    /// The table cannot be reached or refuses.
    StorageUnavailable = "storage_unavailable", 503;

    /// KMS refuses this enclave.
    KmsDenied = "kms_denied", 502;
    /// KMS answered with something an attested call may not get.
    KmsReplyRefused = "kms_reply_refused", 502;
    /// KMS cannot be reached or throttles.
    KmsUnavailable = "kms_unavailable", 503;
    /// The CMK is not one this enclave may adopt.
    KeyPolicyRefused = "key_policy_refused", 503;

    /// The enclave has no credentials or no adopted CMK yet.
    NotReady = "not_ready", 503;
    /// The enclave behind the pod, or the pod, cannot be reached.
    EnclaveUnavailable = "enclave_unavailable", 503;
    /// The queue is full.
    Busy = "busy", 503;
    /// The request took too long.
    DeadlineExceeded = "deadline_exceeded", 504;

    /// A hop did not speak the protocol.
    ProtocolViolation = "protocol_violation", 502;
    /// A bug of ours.
    Internal = "internal", 500;
}

impl Code {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::StorageThrottled
                | Self::StorageUnavailable
                | Self::KmsUnavailable
                | Self::NotReady
                | Self::EnclaveUnavailable
                | Self::Busy
                | Self::DeadlineExceeded
                | Self::TooManyFailures
        )
    }

    /// Seconds for a `Retry-After` header, where waiting helps.
    pub fn retry_after(self) -> Option<u32> {
        self.is_retryable().then_some(RETRY_AFTER_SECONDS)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused request. Everything in it is shown to the caller: it never holds a payload, a secret
/// or another system's error text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{code}: {error}")]
pub struct Rejection {
    /// The stable reason.
    pub code: Code,
    /// A sentence for a human.
    pub error: Cow<'static, str>,
    /// The member of the request that is at fault, as a path such as `transaction_payload.value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Cow<'static, str>>,
}

impl Rejection {
    /// A refusal that no single member is the cause of.
    pub fn new(code: Code, error: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            error: error.into(),
            field: None,
        }
    }

    /// A refusal because of the member `field`; the sentence starts with its name.
    pub fn field(
        code: Code,
        field: impl Into<Cow<'static, str>>,
        problem: impl fmt::Display,
    ) -> Self {
        let field = field.into();
        Self {
            code,
            error: format!("{field}: {problem}").into(),
            field: Some(field),
        }
    }

    /// The member `field` has a wrong type, form or range.
    pub fn invalid(field: impl Into<Cow<'static, str>>, problem: impl fmt::Display) -> Self {
        Self::field(Code::InvalidField, field, problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_serialize_as_their_text_and_are_distinct() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{code}\""));
            assert!((400..=599).contains(&code.http_status()));
            assert!(seen.insert(code.as_str()));
        }
    }
}
