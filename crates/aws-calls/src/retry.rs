//! Retries of what AWS refused before any work was done.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;

use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::CallFailure;

/// Repeats calls of an operation with the error `E` that were throttled without a code, or refused
/// for a clock or for credentials that may be right a moment later.
pub struct Retry<E>(PhantomData<fn() -> E>);

impl<E> Retry<E> {
    /// The retries of an operation with the error `E`.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E> Default for Retry<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> fmt::Debug for Retry<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Retry")
    }
}

impl<E> ClassifyRetry for Retry<E>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let (Some(Err(error)), Some(response)) = (context.output_or_error(), context.response())
        else {
            return RetryAction::NoActionIndicated;
        };
        let error = error
            .as_operation_error()
            .and_then(|error| error.downcast_ref::<E>());
        let (code, message) = (error.and_then(E::code), error.and_then(E::message));
        match CallFailure::sort(code, message, response.status().as_u16()) {
            CallFailure::Throttled => RetryAction::throttling_error(),
            CallFailure::ClockSkewed | CallFailure::CredentialsExpired => {
                RetryAction::transient_error()
            }
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "refused before any work was done"
    }
}
