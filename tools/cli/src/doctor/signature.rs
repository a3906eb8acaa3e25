//! Checks of the API's answers: its clock, and whether it accepts a signature.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use cloister_client::{ClientError, Response};
use serde::Deserialize;

use super::Finding;

/// Compares this machine's clock with the answer's Date (RFC 9110 §6.6.1), which counts whole
/// seconds.
pub(super) fn clock(answer: &Response) -> Finding {
    let here = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let date = answer
        .headers
        .get("date")
        .and_then(|date| date.to_str().ok());
    match date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()) {
        Some(there) => skew(here.cast_signed() - there.timestamp()),
        None => Finding::not_checked("clock", "the answer carries no date"),
    }
}

fn skew(seconds: i64) -> Finding {
    let direction = if seconds < 0 { "behind" } else { "ahead of" };
    let finding = format!("{} s {direction} the endpoint's", seconds.abs());
    let fix = |refused: &str| format!("set this machine's clock (NTP): {refused}");
    match seconds.abs() {
        0..=1 => Finding::ok("clock", "in step with the endpoint's"),
        2..=TOLERATED => Finding::ok("clock", finding),
        ..=SIGNATURE => Finding::failed(
            "clock",
            finding,
            fix("the enclave refuses requests outside of a minute"),
        ),
        _ => Finding::failed(
            "clock",
            finding,
            fix("AWS refuses signatures outside of five minutes"),
        ),
    }
}

/// Checks the answer to a signed `GET /version`. Returns whether the front door answered.
pub(super) fn findings(answer: &Response, findings: &mut Vec<Finding>) -> bool {
    match answer.success::<Version>() {
        Ok(Version { service, version }) => {
            findings.push(Finding::ok("signature", "accepted"));
            let own = env!("CARGO_PKG_VERSION");
            let note = if version == own {
                String::new()
            } else {
                format!("; this program is {own}")
            };
            findings.push(Finding::ok(
                "front door",
                format!("{service} {version}{note}"),
            ));
            true
        }
        Err(ClientError::Gateway { status, message }) => {
            let fix = what_to_do(status, &message);
            findings.push(Finding::failed(
                "signature",
                format!("refused with status {status}: {message}"),
                fix,
            ));
            findings.push(Finding::not_checked(
                "front door",
                "AWS let no request through",
            ));
            false
        }
        Err(error) => {
            findings.push(Finding::not_checked(
                "signature",
                "the answer is not API Gateway's",
            ));
            let fix = "is this the endpoint of Cloister, with its stage?";
            findings.push(Finding::failed("front door", error.to_string(), fix));
            false
        }
    }
}

#[derive(Deserialize)]
struct Version {
    service: String,
    version: String,
}

/// The advice for a message of API Gateway:
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html>.
fn what_to_do(status: u16, message: &str) -> &'static str {
    let said = |words: &str| message.to_ascii_lowercase().contains(words);
    if said("missing authentication token") {
        "the path is unknown there: does the URL end with the stage?"
    } else if said("not authorized") {
        "this identity may not call the API: allow it execute-api:Invoke, or assume the invoke role"
    } else if said("expired") || said("not yet current") {
        "the signature's time is off: set this machine's clock"
    } else if said("scoped to a valid region") || said("scoped to correct region") {
        "the request was signed for another region: give --region"
    } else if said("signature we calculated") || said("does not match") {
        "the secret access key does not belong to the access key, or something in between changes requests"
    } else if said("security token") || said("access key") {
        "the access key or the session token is unknown there: log in again, and check that they belong together"
    } else if said("forbidden") {
        "the API's resource policy, a WAF or a custom domain without this path refuses: check these"
    } else if status == 429 {
        "the API throttles: wait, or raise the stage's limits"
    } else if status >= 500 {
        "the function behind the API fails: see its log"
    } else {
        "see the message above"
    }
}

/// Authenticated requests are accepted within a minute; the other half is left for transit.
const TOLERATED: i64 = 30;
/// API Gateway accepts signatures within five minutes.
const SIGNATURE: i64 = 300;

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_minute_is_the_limit_and_travel_takes_its_part() {
        for (seconds, state) in [
            (0, State::Ok),
            (-30, State::Ok),
            (31, State::Failed),
            (-3600, State::Failed),
        ] {
            assert_eq!(skew(seconds).state, state, "{seconds}");
        }
        assert!(skew(-3600).finding.contains("3600 s behind"));
    }

    #[test]
    fn every_sentence_of_aws_has_its_own_advice() {
        let sentences = [
            "Missing Authentication Token",
            "User: arn:aws:iam::1:user/a is not authorized to perform: execute-api:Invoke on resource: x",
            "The security token included in the request is invalid.",
            "Signature expired: 20261121T000000Z is now earlier than 20261121T001000Z",
            "Credential should be scoped to a valid region, not 'x'.",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key.",
            "Forbidden",
        ];
        let advice: std::collections::BTreeSet<_> =
            sentences.map(|sentence| what_to_do(403, sentence)).into();
        assert_eq!(advice.len(), sentences.len());
    }
}
