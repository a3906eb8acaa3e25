//! Client errors.

use std::error::Error;
use std::fmt;

use serde::Deserialize;

/// A failed call. Holds no body and no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Malformed endpoint.
    #[error("the endpoint is not a URL")]
    Endpoint(#[source] http::uri::InvalidUri),
    /// An endpoint such as `/path`.
    #[error("the endpoint has no host")]
    EndpointWithoutHost,
    /// Most likely an unusable CA certificate.
    #[error("failed to set up the HTTP client")]
    Setup(#[source] reqwest::Error),
    /// Malformed method, path or header.
    #[error("failed to build the request")]
    Request(#[source] http::Error),
    /// Unusable credentials, or a request that SigV4 cannot canonicalise.
    #[error("failed to sign the request")]
    Sign(#[source] Box<dyn Error + Send + Sync>),
    /// Malformed transaction payload; nothing was sent.
    #[error("the transaction payload is not JSON")]
    Payload(#[source] serde_json::Error),
    /// No connection, or it ended before the response. The request may have been carried out.
    #[error("no response from the API")]
    Transport(#[source] reqwest::Error),
    /// Refused by Cloister.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Refused by API Gateway or Lambda before Cloister received the request.
    #[error("refused by AWS with status {status}: {message}")]
    Gateway {
        /// The HTTP status.
        status: u16,
        /// The message in AWS's body.
        message: String,
    },
    /// A response that is neither a known success nor a known error.
    #[error("unknown response with status {status}")]
    NotUnderstood {
        /// The HTTP status.
        status: u16,
    },
}

/// An error response of Cloister.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// The HTTP status.
    #[serde(skip)]
    pub status: u16,
    /// The stable code, one of `cloister_protocol::Code`; later versions may add codes.
    pub code: String,
    /// A message for humans.
    pub error: String,
    /// The invalid member of the request.
    pub field: Option<String>,
    /// The same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// The id to quote when reporting the error.
    #[serde(skip)]
    pub request_id: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}, request {})",
            self.error, self.code, self.request_id
        )
    }
}
