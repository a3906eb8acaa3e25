//! Command failures and their exit codes.

use std::error::Error;
use std::process::ExitCode;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use cloister_client::{ClientError, Refusal};
use cloister_contract::ErrorChain;
use serde_json::json;

/// Exit code of a check that found a fault.
pub(crate) const EXIT_NO: u8 = 3;

/// A failed command. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Local cause: unwritable file, missing credentials.
    #[error("{0}")]
    Here(String),
    /// Invalid content of an option, file or environment variable.
    #[error("{0}")]
    Input(String),
    /// Failed call of the API.
    #[error(transparent)]
    Api(#[from] ClientError),
    /// Failed call of an AWS API.
    #[error("{operation}: {message}")]
    Aws {
        /// Name of the call.
        operation: &'static str,
        /// AWS's error code, if AWS answered.
        code: Option<String>,
        /// AWS's message, or the cause of its absence.
        message: String,
    },
    /// A failure that was followed by a clean-up.
    #[error("{failure}; {then}")]
    Then {
        /// The first failure.
        failure: Box<Self>,
        /// Result of the clean-up.
        then: String,
    },
    /// A response that does not match the request.
    #[error("response verification failed; do not use it: {0}")]
    Wrong(String),
}

impl Failure {
    pub(crate) fn input(problem: impl Into<String>) -> Self {
        Self::Input(problem.into())
    }

    /// Converts an SDK error.
    pub(crate) fn aws<E, R>(operation: &'static str) -> impl Fn(SdkError<E, R>) -> Self
    where
        E: Error + ProvideErrorMetadata + 'static,
        R: std::fmt::Debug + 'static,
    {
        move |error| {
            let code = error.code().map(str::to_owned);
            let message = match (error.message(), &code) {
                (Some(message), Some(code)) => format!("{code}: {message}"),
                _ => ErrorChain(&error).to_string(),
            };
            Self::Aws {
                operation,
                code,
                message,
            }
        }
    }

    /// The exit code and its name.
    fn kind(&self) -> (u8, &'static str) {
        match self {
            Self::Here(_) => (1, "failed"),
            Self::Input(_) => (2, "wrong_input"),
            Self::Api(error) => match error {
                ClientError::Refused(refusal) if is_retryable(refusal) => (5, "refused_for_now"),
                ClientError::Refused(_) => (4, "refused"),
                ClientError::Gateway { .. } => (6, "refused_by_aws"),
                ClientError::Transport(_) => (7, "no_answer"),
                ClientError::NotUnderstood { .. } => (8, "wrong_answer"),
                ClientError::Endpoint(_)
                | ClientError::EndpointWithoutHost
                | ClientError::Payload(_) => (2, "wrong_input"),
                _ => (1, "failed"),
            },
            Self::Aws { code: Some(_), .. } => (6, "refused_by_aws"),
            Self::Aws { code: None, .. } => (7, "no_answer"),
            Self::Then { failure, .. } => failure.kind(),
            Self::Wrong(_) => (8, "wrong_answer"),
        }
    }

    pub(crate) fn print(&self, json: bool) -> ExitCode {
        let (exit_code, kind) = self.kind();
        if json {
            let mut failure = json!({ "exit_code": exit_code, "kind": kind, "error": ErrorChain(self).to_string() });
            if let Self::Api(ClientError::Refused(refusal)) = self {
                failure["code"] = refusal.code.as_str().into();
                failure["field"] = refusal.field.as_deref().into();
                failure["request_id"] = refusal.request_id.as_str().into();
            }
            eprintln!("{failure}");
        } else {
            eprintln!("error: {}", ErrorChain(self));
            if let Some(advice) = self.advice() {
                eprintln!("       {advice}");
            }
        }
        ExitCode::from(exit_code)
    }

    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Api(
                ClientError::Gateway { .. }
                | ClientError::Transport(_)
                | ClientError::NotUnderstood { .. },
            ) => Some("run `cloister doctor` to find the cause"),
            Self::Api(ClientError::Refused(refusal))
                if refusal.code == "timestamp_out_of_window" =>
            {
                Some("set this machine's clock, or send the secret itself with --send-secret")
            }
            Self::Api(ClientError::Refused(refusal)) if refusal.code == TOO_MANY_FAILURES => {
                Some("the secret is not this key's; repeating it cannot succeed")
            }
            Self::Api(ClientError::Refused(refusal)) if is_retryable(refusal) => {
                Some("try again in a moment")
            }
            _ => None,
        }
    }
}

/// Returns whether the same request may succeed later. A wrong secret never does, although older deployments
/// report `too_many_failures` as retryable.
fn is_retryable(refusal: &Refusal) -> bool {
    refusal.retryable && refusal.code != TOO_MANY_FAILURES
}

const TOO_MANY_FAILURES: &str = "too_many_failures";

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str, retryable: bool) -> Failure {
        Failure::Api(ClientError::Refused(Refusal {
            status: 503,
            code: code.to_owned(),
            error: "a sentence".to_owned(),
            field: None,
            retryable,
            request_id: "r".to_owned(),
        }))
    }

    #[test]
    fn every_kind_has_its_exit_code() {
        let gateway = ClientError::Gateway {
            status: 403,
            message: "Forbidden".to_owned(),
        };
        let aws = |code: Option<&str>| Failure::Aws {
            operation: "GetKeyPolicy",
            code: code.map(str::to_owned),
            message: String::new(),
        };
        for (failure, code) in [
            (Failure::Here("x".to_owned()), 1),
            (Failure::input("x"), 2),
            (Failure::Api(ClientError::EndpointWithoutHost), 2),
            (refused("invalid_field", false), 4),
            (refused("too_many_failures", false), 4),
            (refused("too_many_failures", true), 4),
            (refused("busy", true), 5),
            (Failure::Api(gateway), 6),
            (aws(Some("AccessDeniedException")), 6),
            (aws(None), 7),
            (Failure::Api(ClientError::NotUnderstood { status: 200 }), 8),
            (Failure::Wrong("x".to_owned()), 8),
        ] {
            assert_eq!(failure.kind().0, code, "{failure}");
        }
    }

    #[test]
    fn a_wrong_secret_is_not_to_be_repeated() {
        let advice = refused("too_many_failures", true).advice().unwrap();
        assert!(advice.contains("cannot succeed"), "{advice}");
        assert_eq!(
            refused("busy", true).advice(),
            Some("try again in a moment")
        );
    }
}
