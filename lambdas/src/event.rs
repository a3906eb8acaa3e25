//! What the function is started with: an API Gateway REST proxy event, or a direct invoke.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloister_protocol::limits::MAX_BODY_LEN;
use cloister_protocol::{Code, Redacted, Rejection};
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

/// One event, by where it comes from.
#[derive(Debug)]
pub enum Event<'a> {
    /// From API Gateway; the answer is a proxy response. The rejection says that it is none we can
    /// read.
    Gateway(Result<Box<GatewayEvent>, Rejection>),
    /// From `lambda:Invoke`: the event is the body of the operation form, and the answer is the
    /// body itself.
    Direct(&'a str),
}

impl<'a> Event<'a> {
    /// Tells the two apart: only a proxy event has a `requestContext`.
    pub fn read(text: &'a str) -> Self {
        #[derive(Deserialize)]
        struct Probe {
            #[serde(rename = "requestContext")]
            request_context: Option<IgnoredAny>,
        }

        // A derived struct would also be read from an array.
        if !text.trim_start().starts_with('{') {
            return Self::Direct(text);
        }
        match serde_json::from_str(text) {
            Ok(Probe {
                request_context: Some(_),
            }) => Self::Gateway(serde_json::from_str(text).map(Box::new).map_err(|_| {
                Rejection::new(
                    Code::ProtocolViolation,
                    "not an API Gateway REST proxy event",
                )
            })),
            _ => Self::Direct(text),
        }
    }
}

/// The members of a proxy event that matter here; AWS adds others over time, and they are ignored.
///
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayEvent {
    http_method: String,
    resource: Option<String>,
    path: String,
    path_parameters: Option<BTreeMap<String, Option<String>>>,
    body: Option<Redacted>,
    is_base64_encoded: Option<bool>,
    request_context: RequestContext,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    request_id: Option<String>,
}

impl GatewayEvent {
    /// The HTTP method.
    pub fn method(&self) -> &str {
        &self.http_method
    }

    /// API Gateway's id of the request. It travels in headers, so only what one takes is believed
    /// to be one: whoever may invoke the function directly can make up events.
    pub fn request_id(&self) -> Option<&str> {
        let id = self.request_context.request_id.as_deref()?;
        ((1..=MAX_REQUEST_ID_LEN).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_graphic()))
        .then_some(id)
    }

    /// The segments of the path below the stage. Taken from the matched resource and its
    /// parameters, because `path` starts with the base path of a custom domain; a parameter stays
    /// one segment whatever it contains.
    pub fn segments(&self) -> Vec<&str> {
        let template = self.resource.as_deref().unwrap_or(&self.path);
        let mut segments = Vec::new();
        for segment in template.split('/').skip(1) {
            match segment
                .strip_prefix('{')
                .and_then(|name| name.strip_suffix('}'))
            {
                Some(name) => match name.strip_suffix('+') {
                    Some(greedy) => segments.extend(self.parameter(greedy).split('/')),
                    None => segments.push(self.parameter(name)),
                },
                None => segments.push(segment),
            }
        }
        segments
    }

    fn parameter(&self, name: &str) -> &str {
        self.path_parameters
            .as_ref()
            .and_then(|parameters| parameters.get(name)?.as_deref())
            .unwrap_or_default()
    }

    /// The bytes the caller sent; none is an empty body.
    ///
    /// # Errors
    /// [`Code::BodyTooLarge`] above [`MAX_BODY_LEN`], before anything is parsed;
    /// [`Code::MalformedJson`] when API Gateway says that the body is base64 and it is not.
    pub fn body(&self) -> Result<Zeroizing<Vec<u8>>, Rejection> {
        let Some(body) = self.body.as_ref().map(Redacted::expose) else {
            return Ok(Zeroizing::default());
        };
        if self.is_base64_encoded != Some(true) {
            check_len(body.len())?;
            return Ok(Zeroizing::new(body.as_bytes().to_vec()));
        }
        // Four characters for three bytes: too many are refused before they are decoded.
        check_len((body.len() / 4).saturating_sub(1) * 3)?;
        let decoded = STANDARD.decode(body).map(Zeroizing::new).map_err(|_| {
            Rejection::new(
                Code::MalformedJson,
                "the body is not the base64 it is said to be",
            )
        })?;
        check_len(decoded.len())?;
        Ok(decoded)
    }
}

impl std::fmt::Debug for GatewayEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayEvent")
            .field("method", &self.http_method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Refuses a body longer than [`MAX_BODY_LEN`].
///
/// # Errors
/// [`Code::BodyTooLarge`].
pub fn check_len(len: usize) -> Result<(), Rejection> {
    if len <= MAX_BODY_LEN {
        Ok(())
    } else {
        let limit = MAX_BODY_LEN / 1024;
        Err(Rejection::new(
            Code::BodyTooLarge,
            format!("the body is larger than {limit} KiB"),
        ))
    }
}

/// Longest request id that is passed on, in characters; API Gateway's have 36.
const MAX_REQUEST_ID_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(text: &str) -> Box<GatewayEvent> {
        match Event::read(text) {
            Event::Gateway(Ok(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_context_makes_a_gateway_event() {
        assert!(matches!(
            Event::read(r#"{"operation":"generate_key"}"#),
            Event::Direct(_)
        ));
        assert!(matches!(
            Event::read(r#"{"requestContext":{}}"#),
            Event::Gateway(Err(_))
        ));
        assert!(matches!(
            Event::read(r#"[{"requestContext":{}}]"#),
            Event::Direct(_)
        ));
        assert!(matches!(Event::read("null"), Event::Direct(_)));
        let event = gateway(
            r#"{"httpMethod":"GET","path":"/version","new":{"x":1},"requestContext":{"stage":"prod","y":[]}}"#,
        );
        assert_eq!(
            (event.method(), event.segments(), event.request_id()),
            ("GET", vec!["version"], None)
        );
    }

    #[test]
    fn only_what_a_header_takes_is_a_request_id() {
        let id = |text: &str| {
            let id = serde_json::to_string(text).unwrap();
            let event = gateway(&format!(
                r#"{{"httpMethod":"GET","path":"/","requestContext":{{"requestId":{id}}}}}"#
            ));
            event.request_id().map(str::to_owned)
        };
        assert_eq!(
            id("5c96fcb2-3ae2-4e98-8452-2bfca3633ea7").unwrap().len(),
            36
        );
        for wrong in ["", "a b", "a\r\nx-header: 1", "ä", &"a".repeat(65)] {
            assert_eq!(id(wrong), None);
        }
    }

    #[test]
    fn segments_come_from_the_resource_and_its_parameters() {
        let segments = |resource: &str, parameters: &str| {
            let event = gateway(&format!(
                r#"{{"httpMethod":"POST","resource":"{resource}","path":"/base/x","pathParameters":{parameters},
                    "requestContext":{{}}}}"#
            ));
            event
                .segments()
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(segments("/", "null"), [""]);
        assert_eq!(segments("/set_key", "null"), ["set_key"]);
        assert_eq!(
            segments("/key/{key_id}/tx_signature", r#"{"key_id":"a/b"}"#),
            ["key", "a/b", "tx_signature"]
        );
        assert_eq!(
            segments("/{proxy+}", r#"{"proxy":"key/a/tx_signature"}"#),
            ["key", "a", "tx_signature"]
        );
        assert_eq!(segments("/key/{key_id}", r#"{"key_id":null}"#), ["key", ""]);
    }

    #[test]
    fn bodies_are_measured_before_they_are_decoded() {
        let body = |body: &str, base64: bool| {
            gateway(&format!(
                r#"{{"httpMethod":"POST","path":"/","body":"{body}","isBase64Encoded":{base64},"requestContext":{{}}}}"#
            ))
            .body()
            .map(|body| body.to_vec())
            .map_err(|rejection| rejection.code)
        };
        assert_eq!(body("e30=", true).unwrap(), b"{}");
        assert_eq!(body("e30=", false).unwrap(), b"e30=");
        assert_eq!(body("e30", true), Err(Code::MalformedJson));
        assert_eq!(
            body(&"a".repeat(MAX_BODY_LEN), false).unwrap().len(),
            MAX_BODY_LEN
        );
        assert_eq!(
            body(&"a".repeat(MAX_BODY_LEN + 1), false),
            Err(Code::BodyTooLarge)
        );
        assert_eq!(
            body(&STANDARD.encode(vec![0; MAX_BODY_LEN]), true)
                .unwrap()
                .len(),
            MAX_BODY_LEN
        );
        assert_eq!(
            body(&STANDARD.encode(vec![0; MAX_BODY_LEN + 1]), true),
            Err(Code::BodyTooLarge)
        );
        assert_eq!(
            body(&"!".repeat(8 * MAX_BODY_LEN), true),
            Err(Code::BodyTooLarge)
        );
    }
}
