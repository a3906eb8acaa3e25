use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde::Deserialize;

use super::*;

/// A case of AWS's test suite: <https://docs.aws.amazon.com/general/latest/gr/signature-v4-test-suite.html>.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    request: String,
    expected: Expected,
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Expected {
    Accepted,
    Refused,
    /// The request cannot reach a server, because it is not HTTP/1.1.
    NotHttp,
}

#[tokio::test]
async fn the_test_suite_of_aws() {
    let mut names = BTreeSet::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/sigv4");
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let vector: Vector = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let name = &vector.name;
        assert_eq!(
            vector.reason.is_some(),
            vector.expected != Expected::Accepted,
            "{name}"
        );
        let outcome = match parse(&vector.request) {
            None => Expected::NotHttp,
            Some(request) => {
                let original = request.uri().clone();
                let token = header(&request, "x-amz-security-token");
                match verify(request, &principals(&token), &SUITE, suite_time()).await {
                    Ok((parts, ..)) => {
                        assert_eq!(parts.uri, original, "{name}");
                        Expected::Accepted
                    }
                    Err(_) => Expected::Refused,
                }
            }
        };
        assert_eq!(outcome, vector.expected, "{name}");
        names.insert(vector.name);
    }
    assert_eq!(names.len(), 31);
}

#[tokio::test]
async fn the_test_suite_with_another_path_is_refused() {
    let vector = include_str!("../../../../tests/vectors/sigv4/get-vanilla.json");
    let vector: Vector = serde_json::from_str(vector).unwrap();
    let changed = vector.request.replace("GET / ", "GET /other ");
    let principals = principals("");
    let refused = verify(parse(&changed).unwrap(), &principals, &SUITE, suite_time()).await;
    assert!(matches!(
        refused,
        Err(SignatureError::SignatureDoesNotMatch(Some(_)))
    ));
}

#[tokio::test]
async fn paths_are_encoded_twice() {
    for path in [
        "/key/a%20b/tx_signature",
        "/key/%7Bid%7D/tx_signature",
        "/key/%C3%A4/tx_signature",
        "/key/%2e%2E/tx_signature",
        "/key/a%2Fb/tx_signature",
        "/key/a+b*c/tx_signature",
        "/key/a%2Bb/tx_signature",
        "/key/100%25/tx_signature",
        "/key/%zz/tx_signature",
        "//key/./a/../b",
        "/a?x=%20y&x=1",
    ] {
        let request = signed(path, "token");
        let verified = verify(request, &principals("token"), &OURS, Utc::now()).await;
        let (parts, ..) = verified.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(parts.uri.to_string(), path);
    }
    // What was signed counts, not what it decodes to.
    let mut request = signed("/key/a%20b", "token");
    *request.uri_mut() = "/key/a%2520b".parse().unwrap();
    let refused = verify(request, &principals("token"), &OURS, Utc::now()).await;
    assert!(matches!(
        refused,
        Err(SignatureError::SignatureDoesNotMatch(Some(_)))
    ));
}

#[tokio::test]
async fn the_session_token_must_be_signed() {
    let mut request = signed("/", "");
    request
        .headers_mut()
        .insert("x-amz-security-token", "token".parse().unwrap());
    let refused = verify(request, &principals("token"), &OURS, Utc::now()).await;
    let Err(SignatureError::SignatureDoesNotMatch(Some(message))) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(
        message,
        "'x-amz-security-token' must be a 'SignedHeader' in the AWS Authorization."
    );
}

#[tokio::test]
async fn credentials_end() {
    let now = Utc::now();
    let principal = |seconds| Principal {
        expires_at: Some(now.timestamp() + seconds),
        ..principal("token")
    };
    let live = Principals::new([principal(1)]);
    assert!(
        verify(signed("/", "token"), &live, &OURS, now)
            .await
            .is_ok()
    );
    let ended = Principals::new([principal(0)]);
    assert!(matches!(
        verify(signed("/", "token"), &ended, &OURS, now).await,
        Err(SignatureError::ExpiredToken(_))
    ));
}

#[test]
fn the_window_counts_both_ways() {
    let now: DateTime<Utc> = "2026-11-21T12:00:00Z".parse().unwrap();
    let check = |date: Option<&str>| {
        let mut headers = HeaderMap::new();
        if let Some(date) = date {
            headers.insert("x-amz-date", date.parse().unwrap());
        }
        check_age(&headers, 5, now)
    };
    let message = |date| check(Some(date)).unwrap_err().to_string();
    assert!(check(Some("20261121T115500Z")).is_ok());
    assert!(check(Some("20261121T120500Z")).is_ok());
    assert_eq!(
        message("20261121T115459Z"),
        "Signature expired: 20261121T115459Z is now earlier than 20261121T115500Z (20261121T120000Z - 5 min.)"
    );
    assert_eq!(
        message("20261121T120501Z"),
        "Signature not yet current: 20261121T120501Z is still later than 20261121T120500Z (20261121T120000Z + 5 min.)"
    );
    assert!(check(Some("yesterday")).is_ok() && check(None).is_ok());
}

/// A request that AWS's own library signs for `path`.
fn signed(path: &str, token: &str) -> Request<Bytes> {
    let token = (!token.is_empty()).then(|| token.to_owned());
    let identity = Credentials::new(KEY_ID, SECRET, token, None, "test").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(OURS.region)
        .name(OURS.service)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let url = format!("http://example.amazonaws.com{path}");
    let headers = [("host", "example.amazonaws.com")];
    let body = SignableBody::Bytes(b"");
    let signable = SignableRequest::new("GET", url, headers.into_iter(), body).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    let mut request = Request::get(path)
        .header("host", "example.amazonaws.com")
        .body(Bytes::new())
        .unwrap();
    instructions.apply_to_request_http1x(&mut request);
    request
}

/// Reads an HTTP/1.1 request; `None` for anything else.
fn parse(text: &str) -> Option<Request<Bytes>> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || version != "HTTP/1.1" {
        return None;
    }
    let mut request = Request::builder().method(method).uri(target);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        request = request.header(name, value.trim());
    }
    request.body(Bytes::copy_from_slice(body.as_bytes())).ok()
}

fn header(request: &Request<Bytes>, name: &str) -> String {
    let value = request.headers().get(name);
    value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

fn principals(token: &str) -> Principals {
    Principals::new([principal(token)])
}

fn principal(token: &str) -> Principal {
    Principal {
        access_key_id: KEY_ID.into(),
        secret_access_key: SECRET.into(),
        session_token: token.into(),
        principal_arn: "arn:aws:iam::111122223333:role/caller".into(),
        expires_at: None,
    }
}

fn suite_time() -> DateTime<Utc> {
    "2015-08-30T12:36:00Z".parse().unwrap()
}

const SUITE: Scope<'_> = Scope {
    region: "us-east-1",
    service: "service",
    window_minutes: 15,
};
const OURS: Scope<'_> = Scope {
    region: "eu-central-1",
    service: "execute-api",
    window_minutes: 5,
};
const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
