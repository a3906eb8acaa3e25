//! How KMS is called: deadlines and retries, and what becomes of an error.

use std::error::Error;
use std::time::Duration;

use aws_sdk_kms::config::Builder;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};

use super::KmsError;

/// A request has ten seconds altogether, of which the generator needs two KMS calls and two of the
/// table's.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(3500);
/// One attempt: a fresh TLS connection through the pod included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
/// The SDK repeats only what is transient: throttling, server errors, broken connections, timeouts.
const MAX_ATTEMPTS: u32 = 3;

/// The configuration of a single call.
pub(crate) fn limits() -> Builder {
    Builder::default()
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(MAX_ATTEMPTS)
                .with_initial_backoff(Duration::from_millis(50))
                .with_max_backoff(Duration::from_millis(500)),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .operation_timeout(OPERATION_TIMEOUT)
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .build(),
        )
}

/// Puts AWS's words into the log and leaves one of our own reasons.
pub(crate) fn log<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> KmsError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    // The messages only: the debug form of an SdkError holds the raw reply, hence a key if KMS had
    // sent one in the clear.
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    let message = error.message().unwrap_or_default();
    tracing::warn!(
        operation,
        code = error.code(),
        message,
        text,
        "KMS call failed"
    );
    reason(error)
}

fn reason<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> KmsError {
    let SdkError::ServiceError(refused) = error else {
        return match error {
            SdkError::ResponseError(_) => KmsError::ReplyRefused("not a reply"),
            _ => KmsError::Unavailable,
        };
    };
    match (
        refused.err().code().unwrap_or_default(),
        refused.raw().status().as_u16(),
    ) {
        // Success, but the SDK could not read it.
        (_, 200..300) => KmsError::ReplyRefused("not a reply"),
        ("InvalidCiphertextException" | "IncorrectKeyException", _) => KmsError::UnknownDataKey,
        ("ThrottlingException" | "LimitExceededException" | "RequestLimitExceeded", _)
        | (_, 429 | 500..) => KmsError::Unavailable,
        _ => KmsError::Denied,
    }
}
