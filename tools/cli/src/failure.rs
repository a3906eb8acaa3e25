//! Why a command has no result, and the exit code that tells scripts so.

use std::error::Error;
use std::process::ExitCode;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use cloister_client::ClientError;
use serde_json::json;

/// A check says no.
pub(crate) const EXIT_NO: u8 = 3;

/// Why there is no result. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Something on this machine: a file that cannot be written, credentials that are not there.
    #[error("{0}")]
    Here(String),
    /// An option, a file or an environment variable holds something else than it should.
    #[error("{0}")]
    Input(String),
    /// The API.
    #[error(transparent)]
    Api(#[from] ClientError),
    /// A call of AWS's.
    #[error("{operation}: {message}")]
    Aws {
        /// Which call.
        operation: &'static str,
        /// AWS's own code, when there was an answer.
        code: Option<String>,
        /// AWS's sentence, or why there was none.
        message: String,
    },
    /// One of the above, and what was done about it.
    #[error("{failure}; {then}")]
    Then {
        /// The failure.
        failure: Box<Self>,
        /// What happened after it.
        then: String,
    },
    /// The answer does not hold what was asked for.
    #[error("the answer is not right and must not be used: {0}")]
    Wrong(String),
}

impl Failure {
    pub(crate) fn input(problem: impl Into<String>) -> Self {
        Self::Input(problem.into())
    }

    /// Of an SDK's error.
    pub(crate) fn aws<E, R>(operation: &'static str) -> impl Fn(SdkError<E, R>) -> Self
    where
        E: Error + ProvideErrorMetadata + 'static,
        R: std::fmt::Debug + 'static,
    {
        move |error| {
            let code = error.code().map(str::to_owned);
            let message = match (error.message(), &code) {
                (Some(message), Some(code)) => format!("{code}: {message}"),
                _ => chain(&error),
            };
            Self::Aws {
                operation,
                code,
                message,
            }
        }
    }

    /// The name of the exit code.
    fn kind(&self) -> (u8, &'static str) {
        match self {
            Self::Here(_) => (1, "failed"),
            Self::Input(_) => (2, "wrong_input"),
            Self::Api(error) => match error {
                ClientError::Refused(refusal) if refusal.retryable => (5, "refused_for_now"),
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
            let mut failure = json!({ "exit_code": exit_code, "kind": kind, "error": chain(self) });
            if let Self::Api(ClientError::Refused(refusal)) = self {
                failure["code"] = refusal.code.as_str().into();
                failure["field"] = refusal.field.as_deref().into();
                failure["request_id"] = refusal.request_id.as_str().into();
            }
            eprintln!("{failure}");
        } else {
            eprintln!("error: {}", chain(self));
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
            ) => Some("`cloister doctor` says what to do"),
            Self::Api(ClientError::Refused(refusal))
                if refusal.code == "timestamp_out_of_window" =>
            {
                Some("set this machine's clock, or send the secret itself with --send-secret")
            }
            Self::Api(ClientError::Refused(refusal)) if refusal.retryable => {
                Some("try again in a moment")
            }
            _ => None,
        }
    }
}

/// An error and its causes, each once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let sentence = error.to_string();
        if !text.contains(&sentence) {
            text = format!("{text}: {sentence}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use cloister_client::Refusal;

    use super::*;

    fn refused(retryable: bool) -> Failure {
        let (code, error, request_id) = ("busy".to_owned(), "try later".to_owned(), "r".to_owned());
        Failure::Api(ClientError::Refused(Refusal {
            status: 503,
            code,
            error,
            field: None,
            retryable,
            request_id,
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
            (refused(false), 4),
            (refused(true), 5),
            (Failure::Api(gateway), 6),
            (aws(Some("AccessDeniedException")), 6),
            (aws(None), 7),
            (Failure::Api(ClientError::NotUnderstood { status: 200 }), 8),
            (Failure::Wrong("x".to_owned()), 8),
        ] {
            assert_eq!(failure.kind().0, code, "{failure}");
        }
    }
}
