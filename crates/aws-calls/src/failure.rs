//! Failed calls: sorted by cause, and logged without the text of AWS.

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId as _;
use cloister_contract::ErrorChain;

/// The cause of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// The service throttles.
    Throttled,
    /// The service's clock and ours differ by more than it accepts.
    ClockSkewed,
    /// The credentials have expired.
    CredentialsExpired,
    /// The reply is not one of the service's: HTML, for example.
    NotAReply,
    /// The service was not reached, did not answer in time, or failed.
    Unavailable,
    /// The service refused the call for another reason.
    Refused,
}

impl CallFailure {
    fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Self {
        let refused = match error {
            SdkError::ServiceError(refused) => refused,
            SdkError::ResponseError(response) if response.raw().status().as_u16() >= 500 => {
                return Self::Unavailable;
            }
            SdkError::ResponseError(_) => return Self::NotAReply,
            _ => return Self::Unavailable,
        };
        let (code, message) = (refused.err().code(), refused.err().message());
        Self::sort(code, message, refused.raw().status().as_u16())
    }

    pub(crate) fn sort(code: Option<&str>, message: Option<&str>, status: u16) -> Self {
        match (code, status) {
            // Success, which the SDK failed to read.
            (_, 200..300) => Self::NotAReply,
            (Some(code), _) if THROTTLES.contains(&code) => Self::Throttled,
            (_, 429) => Self::Throttled,
            (Some(code), _) if CLOCKS.contains(&code) => Self::ClockSkewed,
            (Some(SIGNATURE_REFUSED), _)
                if message
                    .is_some_and(|text| STALE.iter().any(|start| text.starts_with(start))) =>
            {
                Self::ClockSkewed
            }
            (Some(code), _) if EXPIRED.contains(&code) => Self::CredentialsExpired,
            (_, 500..) => Self::Unavailable,
            (None | Some(""), _) => Self::NotAReply,
            (Some(_), _) => Self::Refused,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::ClockSkewed => "clock_skewed",
            Self::CredentialsExpired => "credentials_expired",
            Self::NotAReply => "not_a_reply",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
        }
    }
}

/// Logs a failed call as `event`, by code, status and request id. Neither the error's text nor the
/// reply is logged: they may repeat the signed request, or hold a key if KMS had sent one in the
/// clear.
pub fn log_failure<E>(
    event: &'static str,
    operation: &'static str,
    error: &SdkError<E, HttpResponse>,
) -> CallFailure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let failure = CallFailure::of(error);
    let status = error
        .raw_response()
        .map(|response| response.status().as_u16());
    tracing::warn!(
        event,
        operation,
        failure = failure.name(),
        status,
        code = error.code().map(identifier),
        request_id = error.request_id().map(identifier),
        // Our own words: the request never reached AWS, or no reply came.
        error = own_error(error).map(|error| ErrorChain(error).to_string()),
        "AWS call failed"
    );
    failure
}

/// The error of a call that got no reply.
fn own_error<E>(error: &SdkError<E, HttpResponse>) -> Option<&(dyn Error + 'static)>
where
    E: Error + 'static,
{
    match error {
        SdkError::ConstructionFailure(_)
        | SdkError::DispatchFailure(_)
        | SdkError::TimeoutError(_) => Some(error),
        _ => None,
    }
}

/// A code or id as AWS makes them; whatever else stands in its place is not logged.
fn identifier(text: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.len() <= MAX_IDENTIFIER_LEN && text.bytes().all(plain) {
        text
    } else {
        "unprintable"
    }
}

const THROTTLES: &[&str] = &[
    "ThrottlingException",
    "ThrottledException",
    "Throttling",
    "LimitExceededException",
    "RequestLimitExceeded",
    "ProvisionedThroughputExceededException",
    "TooManyRequestsException",
    "SlowDown",
];
const CLOCKS: &[&str] = &["RequestTimeTooSkewed", "RequestInTheFuture"];
/// KMS and DynamoDB answer a skewed clock with this code, and a wrong signature too: the beginning
/// of the message tells which.
const SIGNATURE_REFUSED: &str = "InvalidSignatureException";
const STALE: &[&str] = &["Signature expired", "Signature not yet current"];
const EXPIRED: &[&str] = &["ExpiredTokenException", "ExpiredToken", "RequestExpired"];
/// In bytes.
const MAX_IDENTIFIER_LEN: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_sorted_by_code_and_status() {
        for (code, status, expected) in [
            (Some("ThrottlingException"), 400, CallFailure::Throttled),
            (None, 429, CallFailure::Throttled),
            (Some("RequestTimeTooSkewed"), 403, CallFailure::ClockSkewed),
            (
                Some("ExpiredTokenException"),
                400,
                CallFailure::CredentialsExpired,
            ),
            (None, 200, CallFailure::NotAReply),
            (None, 403, CallFailure::NotAReply),
            (Some(""), 302, CallFailure::NotAReply),
            (None, 502, CallFailure::Unavailable),
            (Some("KMSInternalException"), 500, CallFailure::Unavailable),
            (Some("AccessDeniedException"), 400, CallFailure::Refused),
        ] {
            assert_eq!(
                CallFailure::sort(code, None, status),
                expected,
                "{code:?} {status}"
            );
        }
        for (message, expected) in [
            (
                "Signature expired: 20261126T120000Z is now earlier than …",
                CallFailure::ClockSkewed,
            ),
            (
                "Signature not yet current: 20261126T120000Z is still later than …",
                CallFailure::ClockSkewed,
            ),
            (
                "The request signature we calculated does not match …",
                CallFailure::Refused,
            ),
        ] {
            let code = Some("InvalidSignatureException");
            assert_eq!(CallFailure::sort(code, Some(message), 400), expected);
        }
    }

    #[test]
    fn only_identifiers_are_repeated() {
        for text in [
            "AccessDeniedException",
            "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
        ] {
            assert_eq!(identifier(text), text);
        }
        let long = "x".repeat(129);
        for text in ["a b", "x-amz-security-token:IQo", "<html>", &long] {
            assert_eq!(identifier(text), "unprintable");
        }
    }
}
