//! Why there is no result.

use std::error::Error;

use crate::response::Refusal;

/// Why there is no result. Holds no body and no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The endpoint is no URL.
    #[error("the endpoint is not a URL")]
    Endpoint(#[source] http::uri::InvalidUri),
    /// The endpoint names no host.
    #[error("the endpoint names no host")]
    EndpointWithoutHost,
    /// The HTTP client could not be set up; most likely the CA is no certificate.
    #[error("cannot set up the HTTP client")]
    Setup(#[source] reqwest::Error),
    /// The request could not be made.
    #[error("cannot make the request")]
    Request(#[source] http::Error),
    /// The request could not be signed.
    #[error("cannot sign the request")]
    Sign(#[source] Box<dyn Error + Send + Sync>),
    /// The payload is not JSON.
    #[error("the transaction payload is not JSON")]
    Payload(#[source] serde_json::Error),
    /// There was no answer.
    #[error("the API gave no answer")]
    Transport(#[source] reqwest::Error),
    /// Cloister refused.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// API Gateway or Lambda refused before Cloister saw the request.
    #[error("refused by AWS with status {status}: {message}")]
    Gateway {
        /// The HTTP status.
        status: u16,
        /// AWS's sentence.
        message: String,
    },
    /// The answer is none that this version knows.
    #[error("the answer with status {status} was not understood")]
    NotUnderstood {
        /// The HTTP status.
        status: u16,
    },
}
