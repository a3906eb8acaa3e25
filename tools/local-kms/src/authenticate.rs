//! Who is calling: the request's SigV4 signature, against the file of principals.

use std::path::Path;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::{Request, request::Parts};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use scratchstack_aws_signature::{
    GetSigningKeyRequest, GetSigningKeyResponse, KSecretKey, NO_ADDITIONAL_SIGNED_HEADERS,
    SignatureError, SignatureOptions,
    principal::{SessionData, SessionValue},
    sigv4_validate_request,
};
use tower::{BoxError, service_fn};

use crate::{
    error::KmsError,
    principals::{Principals, account},
};

const SERVICE: &str = "kms";
const PRINCIPAL_ARN: &str = "aws:PrincipalArn";

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
    let principals =
        Principals::read(principals).map_err(|error| KmsError::internal(error.to_string()))?;
    let mut signing_key = service_fn(move |request| {
        let answer = find_signing_key(&principals, &request);
        async move { answer }
    });
    let (_, _, verified) = sigv4_validate_request(
        Request::from_parts(parts, body),
        region,
        SERVICE,
        &mut signing_key,
        now,
        &NO_ADDITIONAL_SIGNED_HEADERS,
        SignatureOptions::default(),
    )
    .await
    .map_err(as_kms_words_it)?;

    match verified.session_data().get(PRINCIPAL_ARN) {
        Some(SessionValue::String(arn)) => {
            let account =
                account(arn).ok_or_else(|| KmsError::internal("a principal without an account"))?;
            Ok(Caller {
                principal_arn: arn.clone(),
                account: account.to_owned(),
            })
        }
        _ => Err(KmsError::internal(
            "a verified signature without a principal",
        )),
    }
}

fn find_signing_key(
    principals: &Principals,
    request: &GetSigningKeyRequest,
) -> Result<GetSigningKeyResponse, BoxError> {
    let unknown = || {
        SignatureError::InvalidClientTokenId(
            "The security token included in the request is invalid.".into(),
        )
    };
    let principal = principals.find(request.access_key()).ok_or_else(unknown)?;
    // The signature library passes the token on unread.
    let token = request.session_token().unwrap_or_default();
    verify_slices_are_equal(token.as_bytes(), principal.session_token.as_bytes())
        .map_err(|_| unknown())?;

    let secret: KSecretKey = principal.secret_access_key.parse()?;
    let mut session = SessionData::new();
    session.insert(
        PRINCIPAL_ARN,
        SessionValue::String(principal.principal_arn.clone()),
    );
    Ok(GetSigningKeyResponse::builder()
        .session_data(session)
        .signing_key(secret.to_ksigning(
            request.request_date(),
            request.region(),
            request.service(),
        ))
        .build()?)
}

fn as_kms_words_it(error: BoxError) -> KmsError {
    let Ok(error) = error.downcast::<SignatureError>() else {
        return KmsError::internal("the signature could not be verified");
    };
    let exception = match *error {
        SignatureError::ExpiredToken(_) => "ExpiredTokenException",
        SignatureError::InvalidClientTokenId(_) => "UnrecognizedClientException",
        SignatureError::MissingAuthenticationToken(_) => "MissingAuthenticationTokenException",
        SignatureError::IncompleteSignature(_) => "IncompleteSignatureException",
        SignatureError::IO(_) | SignatureError::InternalServiceError(_) => "KMSInternalException",
        _ => "InvalidSignatureException",
    };
    KmsError::new(exception, error.to_string())
}
