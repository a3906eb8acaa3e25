//! Authenticates a call by its SigV4 signature.

use std::path::Path;

use axum::http::{Request, request::Parts};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use cloister_contract::ErrorChain;
use cloister_stand_in::{
    principals::Principals,
    sigv4::{Scope, SignatureError, verify},
};

use crate::error::KmsError;

/// An authenticated principal. Only [`authenticate`] makes one.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) principal_arn: String,
    pub(crate) account: String,
}

/// Verifies a request's signature and its session token.
pub(crate) async fn authenticate(
    parts: Parts,
    body: Bytes,
    principals: &Path,
    region: &str,
    now: DateTime<Utc>,
) -> Result<Caller, KmsError> {
    let principals = Principals::read(principals)
        .map_err(|error| KmsError::internal(ErrorChain(&error).to_string()))?;
    let scope = Scope {
        region,
        service: "kms",
        window_minutes: 15,
    };
    let request = Request::from_parts(parts, body);
    let (_, _, principal) = verify(request, &principals, &scope, now)
        .await
        .map_err(as_kms_words_it)?;
    Ok(Caller {
        account: principal.account().to_string(),
        principal_arn: principal.principal_arn,
    })
}

fn as_kms_words_it(error: SignatureError) -> KmsError {
    let exception = match error {
        SignatureError::ExpiredToken(_) => "ExpiredTokenException",
        SignatureError::InvalidClientTokenId(_) => "UnrecognizedClientException",
        SignatureError::MissingAuthenticationToken(_) => "MissingAuthenticationTokenException",
        SignatureError::IncompleteSignature(_) => "IncompleteSignatureException",
        SignatureError::IO(_) | SignatureError::InternalServiceError(_) => "KMSInternalException",
        _ => "InvalidSignatureException",
    };
    KmsError::new(exception, error.to_string())
}
