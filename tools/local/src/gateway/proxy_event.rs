//! API Gateway's event for a request, REST proxy integration, payload format 1.0:
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html>.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use cloister_stand_in::principals::Principal;
use serde_json::{Value, json};
use uuid::Uuid;

/// The event's contents besides the request.
pub(crate) struct Context<'a> {
    pub(crate) caller: &'a Principal,
    pub(crate) source: IpAddr,
    pub(crate) request_id: &'a str,
    pub(crate) now: DateTime<Utc>,
}

/// The event for an authenticated request.
pub(crate) fn proxy_event(parts: &Parts, body: &Bytes, context: &Context<'_>) -> Bytes {
    let path = parts.uri.path();
    let (resource, path_parameters) = resource(path);
    let headers = headers(&parts.headers);
    let query = query(parts.uri.query());
    // Without binary media types every body is text.
    let body = (!body.is_empty()).then(|| String::from_utf8_lossy(body));
    let Context {
        caller,
        source,
        request_id,
        now,
    } = context;
    json!({
        "resource": resource,
        "path": path,
        "httpMethod": parts.method.as_str(),
        "headers": last(&headers),
        "multiValueHeaders": headers,
        "queryStringParameters": last(&query),
        "multiValueQueryStringParameters": (!query.is_empty()).then_some(&query),
        "pathParameters": path_parameters,
        "stageVariables": null,
        "requestContext": {
            "resourceId": "local",
            "resourcePath": resource,
            "httpMethod": parts.method.as_str(),
            "extendedRequestId": Uuid::new_v4().simple().to_string(),
            "requestTime": now.format("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            "path": path,
            "accountId": caller.account().as_str(),
            "protocol": "HTTP/1.1",
            "stage": "local",
            "domainPrefix": "localhost",
            "requestTimeEpoch": now.timestamp_millis(),
            "requestId": request_id,
            "identity": {
                "cognitoIdentityPoolId": null,
                "accountId": caller.account().as_str(),
                "cognitoIdentityId": null,
                "caller": caller.access_key_id,
                "sourceIp": source.to_string(),
                "principalOrgId": null,
                "accessKey": caller.access_key_id,
                "cognitoAuthenticationType": null,
                "cognitoAuthenticationProvider": null,
                "userArn": caller.principal_arn,
                "userAgent": parts.headers.get(header::USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes())),
                "user": caller.access_key_id
            },
            "domainName": "localhost",
            "deploymentId": "local",
            "apiId": "local"
        },
        "body": body,
        "isBase64Encoded": false
    })
    .to_string()
    .into()
}

/// The most specific resource that matches, and its parameters.
fn resource(path: &str) -> (&'static str, Option<BTreeMap<&'static str, &str>>) {
    RESOURCES
        .iter()
        .find_map(|template| Some((*template, fit(template, path)?)))
        .map(|(template, parameters)| (template, (!parameters.is_empty()).then_some(parameters)))
        .unwrap_or_else(|| {
            (
                CATCH_ALL,
                Some(BTreeMap::from([(
                    "proxy",
                    path.strip_prefix('/').unwrap_or(path),
                )])),
            )
        })
}

/// The parameters with which `template` becomes `path`.
fn fit<'a>(template: &'static str, path: &'a str) -> Option<BTreeMap<&'static str, &'a str>> {
    let (templates, segments) = (template.split('/'), path.split('/'));
    if templates.clone().count() != segments.clone().count() {
        return None;
    }
    let mut parameters = BTreeMap::new();
    for (template, segment) in templates.zip(segments) {
        match template
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'))
        {
            Some(name) if !segment.is_empty() => {
                parameters.insert(name, segment);
            }
            None if template == segment => {}
            _ => return None,
        }
    }
    Some(parameters)
}

/// Every header but the credentials, which API Gateway does not pass on.
fn headers(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if name != header::AUTHORIZATION && name != "x-amz-security-token" {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            all.entry(name.to_string()).or_default().push(value);
        }
    }
    all
}

fn query(query: Option<&str>) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if let Some(url) =
        query.and_then(|query| reqwest::Url::parse(&format!("http://localhost/?{query}")).ok())
    {
        for (name, value) in url.query_pairs() {
            all.entry(name.into_owned())
                .or_default()
                .push(value.into_owned());
        }
    }
    all
}

/// The last value of every name; `null` without names.
fn last(all: &BTreeMap<String, Vec<String>>) -> Value {
    if all.is_empty() {
        return Value::Null;
    }
    all.iter()
        .filter_map(|(name, values)| Some((name.clone(), Value::from(values.last()?.as_str()))))
        .collect()
}

/// The API's resources, each with the method ANY; the most specific first.
const RESOURCES: &[&str] = &[
    "/",
    "/generate_key",
    "/set_key",
    "/sign_transaction",
    "/version",
    "/health",
    "/key",
    "/key/{key_id}",
    "/key/{key_id}/tx_signature",
    "/key/{key_id}/userop_signature",
];
/// Every other path reaches the function too, which refuses it.
const CATCH_ALL: &str = "/{proxy+}";

#[cfg(test)]
mod tests {
    use super::*;

    fn event(path_and_query: &str, body: &'static [u8]) -> Value {
        let caller = Principal {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "s".repeat(40),
            session_token: "the-token".into(),
            principal_arn: "arn:aws:iam::111122223333:role/caller".into(),
            expires_at: None,
        };
        let (parts, ()) = axum::http::Request::post(path_and_query)
            .header("authorization", "AWS4-HMAC-SHA256 …")
            .header("x-amz-security-token", "the-token")
            .header("x-twice", "1")
            .header("x-twice", "2")
            .header("user-agent", "test")
            .body(())
            .unwrap()
            .into_parts();
        let context = Context {
            caller: &caller,
            source: [127, 0, 0, 1].into(),
            request_id: "the-id",
            now: "2026-11-01T02:03:04.005Z".parse().unwrap(),
        };
        serde_json::from_slice(&proxy_event(&parts, &Bytes::from_static(body), &context)).unwrap()
    }

    #[test]
    fn the_event_has_the_members_of_a_rest_proxy_event() {
        let event = event(
            "/key/7e99/tx_signature?b=2&a=%201&a=x+y",
            br#"{"value": 0.10}"#,
        );
        assert_eq!(event["resource"], "/key/{key_id}/tx_signature");
        assert_eq!(event["path"], "/key/7e99/tx_signature");
        assert_eq!(event["httpMethod"], "POST");
        assert_eq!(event["pathParameters"], json!({ "key_id": "7e99" }));
        assert_eq!(
            event["headers"],
            json!({ "user-agent": "test", "x-twice": "2" })
        );
        assert_eq!(event["multiValueHeaders"]["x-twice"], json!(["1", "2"]));
        assert_eq!(
            event["queryStringParameters"],
            json!({ "a": "x y", "b": "2" })
        );
        assert_eq!(
            event["multiValueQueryStringParameters"],
            json!({ "a": [" 1", "x y"], "b": ["2"] })
        );
        assert_eq!(
            (&event["body"], &event["isBase64Encoded"]),
            (&json!(r#"{"value": 0.10}"#), &json!(false))
        );
        let context = &event["requestContext"];
        assert_eq!(
            (&context["requestId"], &context["accountId"]),
            (&json!("the-id"), &json!("111122223333"))
        );
        assert_eq!(context["requestTime"], "01/Nov/2026:02:03:04 +0000");
        assert_eq!(
            context["identity"]["userArn"],
            "arn:aws:iam::111122223333:role/caller"
        );
        assert_eq!(context["identity"]["sourceIp"], "127.0.0.1");
        assert!(!event.to_string().contains("the-token") && !event.to_string().contains("AWS4"));
    }

    #[test]
    fn nothing_is_null() {
        let event = event("/version", b"");
        for member in [
            "body",
            "pathParameters",
            "queryStringParameters",
            "multiValueQueryStringParameters",
        ] {
            assert_eq!(event[member], Value::Null, "{member}");
        }
    }

    #[test]
    fn resources_are_matched_most_specific_first() {
        let matched = |path| {
            let (resource, parameters) = resource(path);
            (
                resource,
                parameters
                    .unwrap_or_default()
                    .into_iter()
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(matched("/"), ("/", vec![]));
        assert_eq!(matched("/key"), ("/key", vec![]));
        assert_eq!(matched("/key/a"), ("/key/{key_id}", vec![("key_id", "a")]));
        assert_eq!(
            matched("/key/a/userop_signature"),
            ("/key/{key_id}/userop_signature", vec![("key_id", "a")])
        );
        assert_eq!(
            matched("/key/a/b"),
            ("/{proxy+}", vec![("proxy", "key/a/b")])
        );
        assert_eq!(
            matched("//generate_key"),
            ("/{proxy+}", vec![("proxy", "/generate_key")])
        );
        assert_eq!(matched("/key/"), ("/{proxy+}", vec![("proxy", "key/")]));
        assert_eq!(
            matched("/nowhere"),
            ("/{proxy+}", vec![("proxy", "nowhere")])
        );
    }
}
