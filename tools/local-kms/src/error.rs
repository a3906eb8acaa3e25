//! KMS's exceptions: type, message and HTTP status.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

/// An exception of the KMS API.
#[derive(Debug, Clone)]
pub(crate) struct KmsError {
    pub(crate) exception: &'static str,
    message: String,
}

impl KmsError {
    pub(crate) fn new(exception: &'static str, message: impl Into<String>) -> Self {
        Self {
            exception,
            message: message.into(),
        }
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// KMS's answer to a ciphertext that does not open; the reason is not given.
    pub(crate) fn invalid_ciphertext() -> Self {
        Self::new(
            "InvalidCiphertextException",
            "the ciphertext cannot be opened",
        )
    }

    /// A failure of this server, not of the caller.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new("KMSInternalException", message)
    }

    fn status(&self) -> StatusCode {
        match self.exception {
            "KMSInternalException" => StatusCode::INTERNAL_SERVER_ERROR,
            "DependencyTimeoutException" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl IntoResponse for KmsError {
    fn into_response(self) -> Response {
        (
            self.status(),
            Json(json!({ "__type": self.exception, "message": self.message })),
        )
            .into_response()
    }
}
