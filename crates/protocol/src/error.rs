//! Rejections: a stable code, its HTTP status, and a message for humans.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::RETRY_AFTER_SECONDS;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)*) => {
        /// A stable machine-readable reason. Grouped by origin: the caller, storage, KMS, the
        /// enclave, this project.
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

            /// The HTTP status of a response with this code.
            pub fn http_status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }
        }
    };
}

codes! {
    /// The body is not one JSON object.
    MalformedJson = "malformed_json", 400;
    /// Unknown member.
    UnknownField = "unknown_field", 400;
    /// Missing required member.
    MissingField = "missing_field", 400;
    /// Duplicate member.
    DuplicateField = "duplicate_field", 400;
    /// Member of a wrong type, form or range.
    InvalidField = "invalid_field", 400;
    /// Unsupported transaction type.
    UnsupportedTransactionType = "unsupported_transaction_type", 400;
    /// Unknown `operation` of the operation form.
    UnknownOperation = "unknown_operation", 400;
    /// The caller's secret, MAC or signature does not belong to this key.
    AuthenticationFailed = "authentication_failed", 403;
    /// The request's timestamp is more than 60 s from the enclave's clock.
    TimestampOutOfWindow = "timestamp_out_of_window", 403;
    /// The key may not sign this kind of payload.
    NotPermitted = "not_permitted", 403;
    /// Unknown key id. The canary's counts as unknown.
    KeyNotFound = "key_not_found", 404;
    /// Unknown route or method.
    UnknownRoute = "unknown_route", 404;
    /// The row is in the format of the reference deployment and has to be migrated first.
    NotMigrated = "not_migrated", 409;
    /// The row changed since it was read.
    VersionConflict = "version_conflict", 409;
    /// The body is larger than allowed.
    BodyTooLarge = "body_too_large", 413;
    /// The body is compressed.
    UnsupportedContentEncoding = "unsupported_content_encoding", 415;
    /// Many requests with a wrong secret for this key. Not retryable: the secret has to change.
    TooManyFailures = "too_many_failures", 429;

    /// The sealed row is damaged, belongs to another key, or was sealed by another deployment.
    SealedRowRefused = "sealed_row_refused", 500;
    /// The table throttles requests.
    StorageThrottled = "storage_throttled", 503;
    /// The table cannot be reached or refuses.
    StorageUnavailable = "storage_unavailable", 503;

    /// KMS refuses this enclave.
    KmsDenied = "kms_denied", 502;
    /// KMS sent an unexpected reply to an attested call.
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
    /// Internal error.
    Internal = "internal", 500;
}

impl Code {
    /// True if the same request may succeed later without a change.
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
        )
    }

    /// Seconds for a `Retry-After` header, if the request is retryable.
    pub fn retry_after(self) -> Option<u32> {
        self.is_retryable().then_some(RETRY_AFTER_SECONDS)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused request. All of it is shown to the caller: it never holds a payload, a secret or
/// another system's error text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{code}: {error}")]
pub struct Rejection {
    /// The stable reason.
    pub code: Code,
    /// A message for humans.
    pub error: Cow<'static, str>,
    /// The member at fault, as a path such as `transaction_payload.value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Cow<'static, str>>,
}

impl Rejection {
    /// A rejection without a member at fault.
    pub fn new(code: Code, error: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            error: error.into(),
            field: None,
        }
    }

    /// A rejection because of the member `field`; the message starts with its name.
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

    /// A client that obeys `Retry-After` must not repeat a wrong secret.
    #[test]
    fn a_wrong_secret_is_not_retryable_however_often_it_was_sent() {
        for code in [Code::AuthenticationFailed, Code::TooManyFailures] {
            assert!(!code.is_retryable(), "{code}");
            assert_eq!(code.retry_after(), None, "{code}");
        }
    }

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
