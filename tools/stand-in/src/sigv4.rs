//! Verification of SigV4 signatures and session tokens.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use http::request::Parts;
use http::{HeaderMap, Request, Uri};
use scratchstack_aws_signature::{
    ConstSignedHeaderRequirements, GetSigningKeyRequest, GetSigningKeyResponse, KSecretKey,
    SignatureOptions, sigv4_validate_request,
};
use tower::{BoxError, service_fn};

pub use scratchstack_aws_signature::SignatureError;

use crate::principals::{Principal, Principals};

/// The scope that a signature must have been made for. S3 is not supported: every other service
/// encodes the path twice.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// AWS region.
    pub region: &'a str,
    /// AWS service.
    pub service: &'a str,
    /// Largest difference between the signature's time and now, in minutes; at most 15.
    pub window_minutes: i64,
}

/// Verifies that one of `principals` signed `request` for `scope`. Returns the request unchanged.
///
/// # Errors
/// If it did not, or the session token is not that of the credentials.
pub async fn verify(
    request: Request<Bytes>,
    principals: &Principals,
    scope: &Scope<'_>,
    now: DateTime<Utc>,
) -> Result<(Parts, Bytes, Principal), SignatureError> {
    check_age(request.headers(), scope.window_minutes, now)?;
    let (parts, body) = request.into_parts();
    let mut signed = Request::new(body.clone());
    *signed.method_mut() = parts.method.clone();
    *signed.headers_mut() = parts.headers.clone();
    *signed.uri_mut() = encode_path(&parts.uri)?;

    let found = Arc::new(OnceLock::new());
    // Owned, because a future that borrows from here cannot be shown to be `Send`.
    let (finding, principals) = (Arc::clone(&found), principals.clone());
    let mut signing_key = service_fn(move |request: GetSigningKeyRequest| {
        let key = signing_key(&principals, &request, now).map(|(principal, key)| {
            finding.get_or_init(|| principal);
            key
        });
        std::future::ready(key)
    });
    sigv4_validate_request(
        signed,
        scope.region,
        scope.service,
        &mut signing_key,
        now,
        &SIGNED_HEADERS,
        SignatureOptions::default(),
    )
    .await
    .map_err(|error| match error.downcast() {
        Ok(error) => *error,
        Err(error) => SignatureError::InternalServiceError(error),
    })?;
    let principal = found
        .get()
        .cloned()
        .ok_or_else(|| SignatureError::InvalidClientTokenId(INVALID_TOKEN.into()))?;
    Ok((parts, body, principal))
}

/// The path as it enters the canonical request. The library normalises an encoded path and encodes
/// it once; every service but S3 encodes what is on the wire once more, `%20` as `%2520`. Encoding
/// the two characters that the library would decode beforehand makes up for the difference.
fn encode_path(uri: &Uri) -> Result<Uri, SignatureError> {
    let path = uri.path().replace('%', "%25").replace('+', "%2B");
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    path_and_query
        .parse()
        .map_err(|_| SignatureError::InvalidURIPath("the path is malformed".into()))
}

/// The principal that a request names, and the key that its signature must verify with.
fn signing_key(
    principals: &Principals,
    request: &GetSigningKeyRequest,
    now: DateTime<Utc>,
) -> Result<(Principal, GetSigningKeyResponse), BoxError> {
    let unknown = || SignatureError::InvalidClientTokenId(INVALID_TOKEN.into());
    let principal = principals.find(request.access_key()).ok_or_else(unknown)?;
    // The library does not check the token.
    let token = request.session_token().unwrap_or_default();
    verify_slices_are_equal(token.as_bytes(), principal.session_token.as_bytes())
        .map_err(|_| unknown())?;
    if principal.expires_at.is_some_and(|at| at <= now.timestamp()) {
        return Err(SignatureError::ExpiredToken(EXPIRED_TOKEN.into()).into());
    }
    let secret: KSecretKey = principal.secret_access_key.parse()?;
    let key = secret.to_ksigning(request.request_date(), request.region(), request.service());
    let key = GetSigningKeyResponse::builder().signing_key(key).build()?;
    Ok((principal.clone(), key))
}

/// Narrows the library's window of fifteen minutes. A date that cannot be read is left to the
/// library.
fn check_age(
    headers: &HeaderMap,
    window_minutes: i64,
    now: DateTime<Utc>,
) -> Result<(), SignatureError> {
    let date = headers
        .get("x-amz-date")
        .and_then(|date| date.to_str().ok());
    let Some(signed) = date.and_then(|date| NaiveDateTime::parse_from_str(date, DATE).ok()) else {
        return Ok(());
    };
    let (signed, window) = (signed.and_utc(), TimeDelta::minutes(window_minutes));
    let (earliest, latest) = (now - window, now + window);
    let [at, from, until, now] = [signed, earliest, latest, now].map(|time| time.format(DATE));
    if signed < earliest {
        return Err(mismatch(format!(
            "Signature expired: {at} is now earlier than {from} ({now} - {window_minutes} min.)"
        )));
    }
    if signed > latest {
        return Err(mismatch(format!(
            "Signature not yet current: {at} is still later than {until} ({now} + {window_minutes} min.)"
        )));
    }
    Ok(())
}

fn mismatch(message: String) -> SignatureError {
    SignatureError::SignatureDoesNotMatch(Some(message))
}

/// A token outside the signature could have been exchanged by anybody on the way.
const SIGNED_HEADERS: ConstSignedHeaderRequirements =
    ConstSignedHeaderRequirements::new(&[], &[Cow::Borrowed("x-amz-security-token")], &[]);
const INVALID_TOKEN: &str = "The security token included in the request is invalid.";
const EXPIRED_TOKEN: &str = "The security token included in the request is expired";
/// Format of `X-Amz-Date`.
const DATE: &str = "%Y%m%dT%H%M%SZ";

#[cfg(test)]
mod tests;
