//! Who is calling: the request's SigV4 signature, against the callers' file.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::Request;
use axum::http::request::Parts;
use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use scratchstack_aws_signature::{
    GetSigningKeyRequest, GetSigningKeyResponse, KSecretKey, NO_ADDITIONAL_SIGNED_HEADERS,
    SignatureError, SignatureOptions, sigv4_validate_request,
};
use tower::{BoxError, service_fn};

use super::callers::{Caller, Callers};
use super::refusal::Refusal;

/// Verifies that `request` was signed for `service` in `region` at about `now` by one of `callers`.
///
/// # Errors
/// The refusal in AWS's words.
pub(crate) async fn verify(
    request: Request<Bytes>,
    callers: &Callers,
    region: &str,
    service: &str,
    now: DateTime<Utc>,
) -> Result<(Parts, Bytes, Caller), Refusal> {
    check_age(
        request
            .headers()
            .get("x-amz-date")
            .and_then(|date| date.to_str().ok()),
        now,
    )?;
    let found = Arc::new(OnceLock::new());
    let (finding, callers) = (found.clone(), callers.clone());
    let mut signing_key = service_fn(move |request: GetSigningKeyRequest| {
        let answer = find(&callers, &request).map(|(caller, key)| {
            finding.get_or_init(|| caller);
            key
        });
        std::future::ready(answer)
    });
    let (parts, body, _) = sigv4_validate_request(
        request,
        region,
        service,
        &mut signing_key,
        now,
        &NO_ADDITIONAL_SIGNED_HEADERS,
        SignatureOptions::default(),
    )
    .await
    .map_err(Refusal::of_signature)?;
    // Whose key it was that verified.
    let caller = found.get().cloned().ok_or_else(Refusal::invalid_token)?;
    Ok((parts, body, caller))
}

/// The caller that a request names, with the key that its signature has to verify with.
fn find(
    callers: &Callers,
    request: &GetSigningKeyRequest,
) -> Result<(Caller, GetSigningKeyResponse), BoxError> {
    let unknown = || SignatureError::InvalidClientTokenId(String::new());
    let caller = callers.find(request.access_key()).ok_or_else(unknown)?;
    // The library passes the token on unread.
    let token = request.session_token().unwrap_or_default();
    verify_slices_are_equal(token.as_bytes(), caller.session_token.expose().as_bytes())
        .map_err(|_| unknown())?;
    let secret: KSecretKey = caller.secret_access_key.expose().parse()?;
    let key = secret.to_ksigning(request.request_date(), request.region(), request.service());
    Ok((
        caller.clone(),
        GetSigningKeyResponse::builder().signing_key(key).build()?,
    ))
}

/// AWS takes signatures of five minutes before or after; the library would take fifteen. A date
/// that cannot be read is left to the library.
fn check_age(date: Option<&str>, now: DateTime<Utc>) -> Result<(), Refusal> {
    let Some(signed) = date.and_then(|date| NaiveDateTime::parse_from_str(date, DATE).ok()) else {
        return Ok(());
    };
    let (signed, window) = (signed.and_utc(), TimeDelta::minutes(WINDOW_MINUTES));
    let (earliest, latest) = (now - window, now + window);
    let shown = |time: DateTime<Utc>| time.format(DATE).to_string();
    if signed < earliest {
        Err(Refusal::invalid_signature(format!(
            "Signature expired: {} is now earlier than {} ({} - {WINDOW_MINUTES} min.)",
            shown(signed),
            shown(earliest),
            shown(now),
        )))
    } else if signed > latest {
        Err(Refusal::invalid_signature(format!(
            "Signature not yet current: {} is still later than {} ({} + {WINDOW_MINUTES} min.)",
            shown(signed),
            shown(latest),
            shown(now),
        )))
    } else {
        Ok(())
    }
}

/// `X-Amz-Date`.
const DATE: &str = "%Y%m%dT%H%M%SZ";
const WINDOW_MINUTES: i64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_live_for_five_minutes_both_ways() {
        let now: DateTime<Utc> = "2026-11-21T12:00:00Z".parse().unwrap();
        assert!(check_age(Some("20261121T115500Z"), now).is_ok());
        assert!(check_age(Some("20261121T120500Z"), now).is_ok());
        assert_eq!(
            check_age(Some("20261121T115459Z"), now)
                .unwrap_err()
                .message,
            "Signature expired: 20261121T115459Z is now earlier than 20261121T115500Z (20261121T120000Z - 5 min.)"
        );
        assert_eq!(
            check_age(Some("20261121T120501Z"), now)
                .unwrap_err()
                .message,
            "Signature not yet current: 20261121T120501Z is still later than 20261121T120500Z (20261121T120000Z + 5 min.)"
        );
        assert!(check_age(Some("yesterday"), now).is_ok() && check_age(None, now).is_ok());
    }
}
