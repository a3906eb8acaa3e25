//! API Gateway's HTTP answer for a function's result; a result of another form is a 502.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Reads a proxy response; `None` when it is malformed, as API Gateway sees it.
pub(crate) fn http_response(result: &[u8], request_id: &HeaderValue) -> Option<Response<Body>> {
    let result: ProxyResponse = serde_json::from_slice(result).ok()?;
    let body = match (result.body, result.is_base64_encoded) {
        (Some(body), Some(true)) => STANDARD.decode(body).ok()?,
        (Some(body), _) => body.into_bytes(),
        (None, _) => Vec::new(),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = result.status_code.status()?;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    let single = result
        .headers
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| (name, vec![value]));
    for (name, values) in single.chain(result.multi_value_headers.unwrap_or_default()) {
        let name = HeaderName::try_from(name).ok()?;
        headers.remove(&name);
        for value in values {
            headers.append(&name, value.header_value()?);
        }
    }
    headers.insert("x-amzn-requestid", request_id.clone());
    Some(response)
}

/// Other members make a response malformed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProxyResponse {
    status_code: Scalar,
    headers: Option<BTreeMap<String, Scalar>>,
    multi_value_headers: Option<BTreeMap<String, Vec<Scalar>>>,
    body: Option<String>,
    is_base64_encoded: Option<bool>,
}

/// API Gateway takes numbers and booleans where it needs text, and text where it needs a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(i64),
    Boolean(bool),
    Text(String),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Boolean(boolean) => boolean.to_string(),
            Self::Text(text) => text.clone(),
        }
    }

    fn status(&self) -> Option<StatusCode> {
        // hyper would not send a body with an informational status.
        StatusCode::from_u16(self.text().parse().ok()?)
            .ok()
            .filter(|status| !status.is_informational())
    }

    fn header_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.text()).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(result: &str) -> Option<Response<Body>> {
        http_response(result.as_bytes(), &HeaderValue::from_static("the-id"))
    }

    #[test]
    fn results_become_answers() {
        let answer = response(
            r#"{"statusCode":"201","headers":{"Content-Type":"text/plain","X-N":1},
                "multiValueHeaders":{"x-m":["a",true]},"body":"e30=","isBase64Encoded":true}"#,
        )
        .unwrap();
        assert_eq!(answer.status(), 201);
        assert_eq!(answer.headers()["content-type"], "text/plain");
        assert_eq!(
            (
                &answer.headers()["x-n"],
                &answer.headers()["x-amzn-requestid"]
            ),
            (&"1".parse().unwrap(), &"the-id".parse().unwrap())
        );
        assert_eq!(
            answer.headers().get_all("x-m").iter().collect::<Vec<_>>(),
            ["a", "true"]
        );
        assert_eq!(
            response(r#"{"statusCode":200}"#).unwrap().headers()["content-type"],
            "application/json"
        );
    }

    #[test]
    fn other_results_are_malformed() {
        for malformed in [
            "",
            "null",
            "\"text\"",
            "{}",
            r#"{"statusCode":"ok"}"#,
            r#"{"statusCode":1000}"#,
            r#"{"statusCode":100}"#,
            r#"{"statusCode":200,"body":{}}"#,
            r#"{"statusCode":200,"more":1}"#,
            r#"{"statusCode":200,"headers":{"x y":"1"}}"#,
            r#"{"statusCode":200,"headers":{"x":"a\nb"}}"#,
            r#"{"statusCode":200,"headers":{"x":{}}}"#,
            r#"{"statusCode":200,"body":"!","isBase64Encoded":true}"#,
            r#"{"statusCode":200} x"#,
        ] {
            assert!(response(malformed).is_none(), "{malformed}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_results_never_panic(result: Vec<u8>, status: u64, name: String, value: String) {
            let _ = http_response(&result, &HeaderValue::from_static("the-id"));
            let result = serde_json::json!({ "statusCode": status, "headers": { name: value.clone() }, "body": value });
            let _ = response(&result.to_string());
        }
    }
}
