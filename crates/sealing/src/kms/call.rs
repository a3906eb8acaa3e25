//! Calls of KMS: limits, retries and errors.

use std::error::Error;

use aws_sdk_kms::config::Builder;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use cloister_aws_calls::{CallLimits, Retry, log_failure};
use cloister_contract::events;

use super::error::KmsError;

/// The configuration of a single call of an operation with the error `E`.
pub(crate) fn limits<E>() -> Builder
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    Builder::default()
        .retry_config(CallLimits::KMS.retries())
        .timeout_config(CallLimits::KMS.timeouts())
        .retry_classifier(Retry::<E>::new())
}

/// Logs a failed call and returns the cause.
pub(crate) fn failed<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> KmsError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let failure = log_failure(events::KMS_CALL_FAILED, operation, error);
    match error.code() {
        Some("InvalidCiphertextException" | "IncorrectKeyException") => KmsError::UnknownDataKey,
        _ => failure.into(),
    }
}
