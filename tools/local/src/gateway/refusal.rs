//! Refusals as API Gateway and Lambda word them: status, `x-amzn-ErrorType` and
//! `{"message": …}`.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode};
use cloister_stand_in::sigv4::SignatureError;
use serde_json::json;

/// An answer of AWS's, before or instead of the function's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// The exception, for `x-amzn-ErrorType`.
    pub(crate) kind: &'static str,
    pub(crate) message: Cow<'static, str>,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
        }
    }

    /// Unsigned; API Gateway's answer to an unknown path, too.
    pub(crate) fn missing_token() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        )
    }

    /// Unknown access key or session token.
    pub(crate) fn invalid_token() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        )
    }

    /// Invalid signature, scope or time.
    pub(crate) fn invalid_signature(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "InvalidSignatureException", message)
    }

    /// The body is longer than API Gateway takes.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestTooLargeException",
            format!("HTTP content length exceeded {limit} bytes."),
        )
    }

    /// The function failed, or its result is not a proxy response.
    pub(crate) fn bad_gateway() -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            "InternalServerErrorException",
            "Internal server error",
        )
    }

    /// The function took too long.
    pub(crate) fn timed_out() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "InternalServerErrorException",
            "Endpoint request timed out",
        )
    }

    /// A direct invoke of another function.
    pub(crate) fn no_such_function(arn: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "ResourceNotFoundException",
            format!("Function not found: {arn}"),
        )
    }

    /// A direct invoke with something that is not JSON.
    pub(crate) fn event_is_not_json() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContentException",
            "Could not parse request body into json",
        )
    }

    /// A direct invoke that does not wait for the result.
    pub(crate) fn invocation_type() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "InvalidParameterValueException",
            "Only the invocation type RequestResponse is available here",
        )
    }

    /// Translates the signature library's error.
    pub(crate) fn of_signature(error: SignatureError) -> Self {
        let incomplete = |message| {
            Self::new(
                StatusCode::FORBIDDEN,
                "IncompleteSignatureException",
                message,
            )
        };
        match error {
            SignatureError::MissingAuthenticationToken(_) => Self::missing_token(),
            SignatureError::InvalidClientTokenId(_) => Self::invalid_token(),
            SignatureError::ExpiredToken(message) => {
                Self::new(StatusCode::FORBIDDEN, "ExpiredTokenException", message)
            }
            SignatureError::IncompleteSignature(message)
            | SignatureError::InvalidURIPath(message)
            | SignatureError::MalformedQueryString(message) => incomplete(message),
            SignatureError::SignatureDoesNotMatch(Some(message)) => {
                Self::invalid_signature(as_aws_words_it(message))
            }
            SignatureError::SignatureDoesNotMatch(None) => {
                Self::invalid_signature("Signature is ambiguous")
            }
            SignatureError::IO(_) | SignatureError::InternalServiceError(_) => Self::internal(),
            error => incomplete(error.to_string()),
        }
    }

    /// A failure of this program.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerErrorException",
            "Internal server error",
        )
    }

    /// The HTTP answer.
    pub(crate) fn response(&self, request_id: &HeaderValue) -> Response<Body> {
        Response::builder()
            .status(self.status)
            .header("content-type", "application/json")
            .header("x-amzn-errortype", self.kind)
            .header("x-amzn-requestid", request_id)
            .body(json!({ "message": self.message }).to_string().into())
            .expect("constants and checked values are header values")
    }
}

/// API Gateway does not repeat the wrong region.
fn as_aws_words_it(message: String) -> String {
    const START: &str = "Credential should be scoped to a valid region";
    match message
        .strip_prefix(START)
        .and_then(|rest| rest.split_once("'."))
    {
        Some((_, rest)) => format!("{START}.{rest}"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_not_repeated() {
        let worded = |text: &str| as_aws_words_it(text.to_owned());
        assert_eq!(
            worded("Credential should be scoped to a valid region, not 'us-east-1'."),
            "Credential should be scoped to a valid region."
        );
        assert_eq!(
            worded(
                "Credential should be scoped to a valid region, not 'x'. Credential should be scoped to correct service: 'execute-api'."
            ),
            "Credential should be scoped to a valid region. Credential should be scoped to correct service: 'execute-api'."
        );
        assert_eq!(worded("Signature expired: x"), "Signature expired: x");
    }
}
