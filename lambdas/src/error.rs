//! Errors of starting the function and of asking a pod.

use cloister_protocol::{Code, Rejection};

/// An unusable environment; the text lists every mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub(crate) String);

/// A client of the pods that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodsError {
    /// Unreadable file, or malformed PEM.
    #[error("failed to read the certificates of CLOISTER_POD_CA or CLOISTER_POD_CA_FILE")]
    Ca(#[source] rustls_pki_types::pem::Error),
    /// No CA certificate.
    #[error("CLOISTER_POD_CA or CLOISTER_POD_CA_FILE contains no certificate")]
    NoCertificate,
    /// Configuration rejected by rustls.
    #[error("failed to set up TLS")]
    Tls(#[source] rustls::Error),
    /// Configuration rejected by reqwest.
    #[error("failed to set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// A pod that did not answer. The sources are for the log; the caller sees the [`Rejection`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("no connection, or it ended before a response")]
    Dead(#[source] reqwest::Error),
    #[error(
        "the pod did not accept the MAC of the request: its key or its clock differs from this \
         function's"
    )]
    NotAuthenticated,
    #[error("no connection in time")]
    Late(#[source] reqwest::Error),
    #[error("the response was truncated")]
    Cut(#[source] reqwest::Error),
    #[error("invalid response: {0}")]
    Invalid(&'static str),
}

impl From<SendError> for Rejection {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Dead(_) | SendError::Late(_) | SendError::NotAuthenticated => Self::new(
                Code::EnclaveUnavailable,
                "the enclave cannot be reached at the moment",
            ),
            SendError::Cut(_) | SendError::Invalid(_) => invalid_response(),
        }
    }
}

/// The rejection for a pod's response that violates the protocol.
pub(crate) fn invalid_response() -> Rejection {
    Rejection::new(
        Code::ProtocolViolation,
        "the response of the enclave's pod is invalid",
    )
}
