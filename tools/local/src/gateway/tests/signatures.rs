//! Callers and their signatures: every wrong one with the status, exception and message of API Gateway.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cloister_client::{Client, Credentials, Response};
use http::{HeaderValue, Method, Request};

use super::setup::{REGION, SECRET, Setup, TOKEN, echo};

const MISSING: (&str, &str) = (
    "MissingAuthenticationTokenException",
    "Missing Authentication Token",
);
const INVALID_TOKEN: (&str, &str) = (
    "UnrecognizedClientException",
    "The security token included in the request is invalid.",
);
const MISMATCH: (&str, &str) = (
    "InvalidSignatureException",
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and \
     signing method. Consult the service documentation for details.",
);

/// Checks a 403 whose message starts with the expected words.
fn check(name: &str, response: &Response, (kind, message): (&str, &str)) {
    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(
        (response.status, body.as_object().unwrap().len()),
        (403, 1),
        "{name}: {body}"
    );
    assert!(
        body["message"].as_str().unwrap().starts_with(message),
        "{name}: {body}"
    );
    assert_eq!(response.headers["x-amzn-errortype"], kind, "{name}");
    assert_eq!(
        response.headers["content-type"], "application/json",
        "{name}"
    );
    assert_eq!(response.headers["x-amzn-requestid"].len(), 36, "{name}");
}

/// A request that `client` signs for `service` at `at` and that `change` spoils afterwards.
async fn spoilt(
    client: &Client,
    service: &str,
    at: SystemTime,
    change: impl FnOnce(&mut Request<Bytes>),
) -> Response {
    let mut request = client
        .request(Method::POST, "/generate_key?a=1", r#"{"secret":"x"}"#)
        .unwrap();
    let mut scope = client.scope(service);
    scope.at = at;
    client.sign(&mut request, &scope).unwrap();
    change(&mut request);
    client.send(request).await.unwrap()
}

#[tokio::test]
async fn signed_requests_of_every_kind_of_credentials_are_let_in() {
    let setup = Setup::with(echo).await;
    for (id, token) in [("ASIATEMPORARY", Some(TOKEN)), ("AKIALONGLIVED", None)] {
        let client = setup.client_of(REGION, Credentials::new(id, SECRET, token));
        assert_eq!(
            client.post("/generate_key", "{}").await.unwrap().status,
            200
        );
        assert_eq!(client.get("/version").await.unwrap().status, 200);
        assert_eq!(
            client
                .get("/version?b=2&a=x%20y&a=%2F&c")
                .await
                .unwrap()
                .status,
            200
        );
        for minutes in [0, 4] {
            for at in [
                SystemTime::now() - minutes * MINUTE,
                SystemTime::now() + minutes * MINUTE,
            ] {
                assert_eq!(spoilt(&client, "execute-api", at, |_| ()).await.status, 200);
            }
        }
    }
    assert_eq!(setup.events.lock().unwrap().len(), 14);
}

#[tokio::test]
async fn requests_that_are_not_signed_are_refused() {
    let setup = Setup::with(echo).await;
    let client = setup.client();
    let unsigned = |change: fn(&mut Request<Bytes>)| {
        let mut request = client.request(Method::POST, "/generate_key", "{}").unwrap();
        change(&mut request);
        client.send(request)
    };
    check("unsigned", &unsigned(|_| ()).await.unwrap(), MISSING);
    let bearer = unsigned(|request| {
        request
            .headers_mut()
            .insert("authorization", HeaderValue::from_static("Bearer token"));
    });
    check(
        "another scheme",
        &bearer.await.unwrap(),
        ("IncompleteSignatureException", ""),
    );
    let empty = unsigned(|request| {
        request.headers_mut().insert(
            "authorization",
            HeaderValue::from_static("AWS4-HMAC-SHA256"),
        );
    });
    check(
        "no parameters",
        &empty.await.unwrap(),
        ("IncompleteSignatureException", ""),
    );
    assert!(setup.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn requests_of_strangers_are_refused() {
    let setup = Setup::with(echo).await;
    let wrong_secret = SECRET.replace('w', "v");
    for (name, id, secret, token, expected) in [
        (
            "unknown access key",
            "ASIASTRANGER",
            SECRET,
            Some(TOKEN),
            INVALID_TOKEN,
        ),
        (
            "wrong secret",
            "ASIATEMPORARY",
            &wrong_secret,
            Some(TOKEN),
            MISMATCH,
        ),
        (
            "no session token",
            "ASIATEMPORARY",
            SECRET,
            None,
            INVALID_TOKEN,
        ),
        (
            "another session token",
            "ASIATEMPORARY",
            SECRET,
            Some("another"),
            INVALID_TOKEN,
        ),
        (
            "the beginning of the token",
            "ASIATEMPORARY",
            SECRET,
            Some(&TOKEN[..10]),
            INVALID_TOKEN,
        ),
        (
            "a token where there is none",
            "AKIALONGLIVED",
            SECRET,
            Some(TOKEN),
            INVALID_TOKEN,
        ),
    ] {
        let client = setup.client_of(REGION, Credentials::new(id, secret, token));
        check(
            name,
            &client.post("/generate_key", "{}").await.unwrap(),
            expected,
        );
    }
    assert!(setup.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_session_token_outside_the_signature_is_refused() {
    let setup = Setup::with(echo).await;
    // Signed without the token, which is added afterwards.
    let client = setup.client_of(REGION, Credentials::new("ASIATEMPORARY", SECRET, None));
    let response = spoilt(&client, "execute-api", SystemTime::now(), |request| {
        request
            .headers_mut()
            .insert("x-amz-security-token", HeaderValue::from_static(TOKEN));
    });
    check(
        "an unsigned token",
        &response.await,
        (
            "InvalidSignatureException",
            "'x-amz-security-token' must be a 'SignedHeader' in the AWS Authorization.",
        ),
    );
    assert!(setup.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn rotated_credentials_count_from_the_next_request_on() {
    let setup = Setup::with(echo).await;
    let callers = std::fs::read_to_string(&setup.callers).unwrap();
    std::fs::write(&setup.callers, callers.replace(TOKEN, "renewed")).unwrap();
    let with = |token| setup.client_of(REGION, Credentials::new("ASIATEMPORARY", SECRET, token));
    let renewed = with(Some("renewed")).get("/version").await.unwrap();
    assert_eq!(renewed.status, 200);
    let former = with(Some(TOKEN)).get("/version").await.unwrap();
    check("a former token", &former, INVALID_TOKEN);
}

#[tokio::test]
async fn signatures_for_something_else_are_refused() {
    let setup = Setup::with(echo).await;
    let now = SystemTime::now();
    let other_region = setup.client_of(
        "us-east-1",
        Credentials::new("ASIATEMPORARY", SECRET, Some(TOKEN)),
    );
    let signature = |message| ("InvalidSignatureException", message);
    check(
        "another region",
        &spoilt(&other_region, "execute-api", now, |_| ()).await,
        signature("Credential should be scoped to a valid region."),
    );
    let client = setup.client();
    for service in ["lambda", "s3", "execute"] {
        check(
            "another service",
            &spoilt(&client, service, now, |_| ()).await,
            signature("Credential should be scoped to correct service: 'execute-api'."),
        );
    }
    for (at, message) in [
        (now - 6 * MINUTE, "Signature expired: "),
        (now + 6 * MINUTE, "Signature not yet current: "),
    ] {
        check(
            "another time",
            &spoilt(&client, "execute-api", at, |_| ()).await,
            signature(message),
        );
    }
    // A direct invoke is another service.
    let mut request = client
        .request(
            Method::POST,
            "/2015-03-31/functions/front-door/invocations",
            "{}",
        )
        .unwrap();
    client
        .sign(&mut request, &client.scope("execute-api"))
        .unwrap();
    let expected = signature("Credential should be scoped to correct service: 'lambda'.");
    check(
        "an invoke signed for the API",
        &client.send(request).await.unwrap(),
        expected,
    );
    assert!(setup.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn requests_changed_after_signing_are_refused() {
    let setup = Setup::with(echo).await;
    let client = setup.client();
    let changes: [(&str, Change); 7] = [
        ("body", |request| {
            *request.body_mut() = Bytes::from_static(br#"{"secret":"y"}"#)
        }),
        ("no body", |request| *request.body_mut() = Bytes::new()),
        ("path", |request| {
            replace(request, "/generate_key", "/set_key")
        }),
        ("query", |request| replace(request, "a=1", "a=2")),
        ("more query", |request| replace(request, "a=1", "a=1&b=1")),
        ("method", |request| *request.method_mut() = Method::PUT),
        ("signed header", |request| {
            request
                .headers_mut()
                .insert("content-type", HeaderValue::from_static("text/plain"));
        }),
    ];
    for (name, change) in changes {
        check(
            name,
            &spoilt(&client, "execute-api", SystemTime::now(), change).await,
            MISMATCH,
        );
    }
    assert!(setup.events.lock().unwrap().is_empty());
}

type Change = fn(&mut Request<Bytes>);

fn replace(request: &mut Request<Bytes>, from: &str, to: &str) {
    *request.uri_mut() = request.uri().to_string().replace(from, to).parse().unwrap();
}

const MINUTE: Duration = Duration::from_secs(60);
