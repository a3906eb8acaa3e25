//! Events of the function: API Gateway REST proxy events, and direct invokes.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloister_contract::RequestId;
use cloister_protocol::limits::MAX_BODY_LEN;
use cloister_protocol::{Code, Redacted, Rejection};
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

/// One event, by its source.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// From API Gateway; the answer is a proxy response. The rejection describes a malformed event.
    Gateway(Result<Box<GatewayEvent>, Rejection>),
    /// From `lambda:Invoke`: the event is the body of the operation form, and the answer is the
    /// body itself.
    Direct(&'a str),
}

impl<'a> Event<'a> {
    /// Parses an event. Only a proxy event has a `requestContext`.
    pub(crate) fn read(text: &'a str) -> Self {
        #[derive(Deserialize)]
        struct Probe {
            #[serde(rename = "requestContext")]
            request_context: Option<IgnoredAny>,
        }

        // serde would also read the derived struct from an array.
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

    /// The proxy event, if it is one and well-formed.
    pub(crate) fn gateway(&self) -> Option<&GatewayEvent> {
        match self {
            Self::Gateway(Ok(event)) => Some(event),
            _ => None,
        }
    }

    /// The principal that sent the request, for the log: an ARN, or `direct`.
    pub(crate) fn caller(&self) -> &str {
        match self {
            Self::Gateway(Ok(event)) => event.user_arn().unwrap_or("unknown"),
            Self::Gateway(Err(_)) => "unknown",
            Self::Direct(_) => "direct",
        }
    }
}

/// The members of a proxy event that are used here. AWS adds members over time; they are ignored.
///
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GatewayEvent {
    http_method: String,
    resource: Option<String>,
    path: String,
    path_parameters: Option<BTreeMap<String, Option<String>>>,
    headers: Option<BTreeMap<String, Option<String>>>,
    body: Option<Redacted>,
    is_base64_encoded: Option<bool>,
    request_context: RequestContext,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    request_id: Option<String>,
    identity: Option<Identity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    user_arn: Option<String>,
}

impl GatewayEvent {
    /// The HTTP method.
    pub(crate) fn method(&self) -> &str {
        &self.http_method
    }

    /// The id of the request: the caller's `x-request-id` if it is valid, otherwise API Gateway's.
    /// Both are checked: the id travels in headers, and a principal that may invoke the function
    /// directly can forge events.
    pub(crate) fn request_id(&self) -> Option<RequestId> {
        self.header("x-request-id")
            .and_then(|id| id.parse().ok())
            .or_else(|| self.gateway_request_id())
    }

    /// API Gateway's own id of the request, which its access log names.
    pub(crate) fn gateway_request_id(&self) -> Option<RequestId> {
        self.request_context.request_id.as_deref()?.parse().ok()
    }

    /// The trace id of a valid `traceparent`, <https://www.w3.org/TR/trace-context/#traceparent-header>.
    pub(crate) fn trace_id(&self) -> Option<&str> {
        let is_hex = |text: &str, len| {
            text.len() == len
                && text
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut parts = self.header("traceparent")?.split('-');
        let (version, trace_id, parent_id) = (parts.next()?, parts.next()?, parts.next()?);
        let valid = is_hex(version, 2)
            && version != "ff"
            && is_hex(trace_id, 32)
            && trace_id.bytes().any(|byte| byte != b'0')
            && is_hex(parent_id, 16);
        valid.then_some(trace_id)
    }

    /// The segments of the path below the stage, from the matched resource and its parameters:
    /// `path` starts with the base path of a custom domain, and a parameter stays one segment
    /// whatever it contains.
    ///
    /// # Errors
    /// [`Code::UnknownRoute`] if the path has an empty segment. API Gateway may drop one from a
    /// greedy parameter.
    pub(crate) fn segments(&self) -> Result<Vec<&str>, Rejection> {
        if self.path.contains("//") {
            return Err(Rejection::new(
                Code::UnknownRoute,
                "the path has an empty segment",
            ));
        }
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
        Ok(segments)
    }

    /// The bytes of the caller's body; no body is an empty one.
    ///
    /// # Errors
    /// [`Code::UnsupportedContentEncoding`] if the body is compressed; [`Code::BodyTooLarge`] above
    /// [`MAX_BODY_LEN`], before anything is parsed; [`Code::MalformedJson`] if it is not UTF-8, or
    /// not the base64 that API Gateway declares.
    pub(crate) fn body(&self) -> Result<Body<'_>, Rejection> {
        if let Some(encoding) = self.header("content-encoding")
            && !matches!(
                encoding.trim().to_ascii_lowercase().as_str(),
                "" | "identity"
            )
        {
            return Err(Rejection::new(
                Code::UnsupportedContentEncoding,
                "the body has a content-encoding; send it uncompressed",
            ));
        }
        let body = self.body.as_ref().map_or("", Redacted::expose);
        if self.is_base64_encoded != Some(true) {
            check_len(body.len())?;
            // API Gateway replaces invalid UTF-8 before the function sees it. No valid request
            // contains the replacement character itself: JSON can escape it.
            if body.contains(char::REPLACEMENT_CHARACTER) {
                return Err(Rejection::new(
                    Code::MalformedJson,
                    "the body is not valid UTF-8",
                ));
            }
            return Ok(Body::Text(body));
        }
        // Four characters encode three bytes: a longer body is refused before it is decoded.
        check_len((body.len() / 4).saturating_sub(1) * 3)?;
        let decoded = STANDARD.decode(body).map(Zeroizing::new).map_err(|_| {
            Rejection::new(
                Code::MalformedJson,
                "the body is not the base64 that API Gateway declares",
            )
        })?;
        check_len(decoded.len())?;
        Ok(Body::Decoded(decoded))
    }

    /// The principal that signed the request, by API Gateway.
    fn user_arn(&self) -> Option<&str> {
        let arn = self
            .request_context
            .identity
            .as_ref()?
            .user_arn
            .as_deref()?;
        (arn.len() <= MAX_ARN_LEN).then_some(arn)
    }

    fn parameter(&self, name: &str) -> &str {
        self.path_parameters
            .as_ref()
            .and_then(|parameters| parameters.get(name)?.as_deref())
            .unwrap_or_default()
    }

    /// A header by its lower-case name; API Gateway keeps the caller's spelling.
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .as_ref()?
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))?
            .1
            .as_deref()
    }
}

impl fmt::Debug for GatewayEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayEvent")
            .field("method", &self.http_method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The bytes of a body. What was decoded is zeroized on drop; text belongs to the event.
pub(crate) enum Body<'a> {
    /// As API Gateway passed it on.
    Text(&'a str),
    /// From base64.
    Decoded(Zeroizing<Vec<u8>>),
}

impl Deref for Body<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Decoded(bytes) => bytes,
        }
    }
}

/// Refuses a body longer than [`MAX_BODY_LEN`].
///
/// # Errors
/// [`Code::BodyTooLarge`].
pub(crate) fn check_len(len: usize) -> Result<(), Rejection> {
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

/// Longest ARN in AWS, in bytes.
const MAX_ARN_LEN: usize = 2048;

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
            (
                event.method(),
                event.segments().unwrap(),
                event.request_id()
            ),
            ("GET", vec!["version"], None)
        );
    }

    fn with_headers(headers: &str) -> Box<GatewayEvent> {
        gateway(&format!(
            r#"{{"httpMethod":"POST","path":"/","headers":{headers},"body":"{{}}","requestContext":{{"requestId":"of-the-gateway"}}}}"#
        ))
    }

    #[test]
    fn a_valid_request_id_of_the_caller_is_adopted() {
        let ids = |header: &str| {
            let event = with_headers(header);
            let ids = [event.request_id(), event.gateway_request_id()];
            ids.map(|id| id.unwrap().as_str().to_owned())
        };
        assert_eq!(
            ids(r#"{"X-Request-Id":"of-the-caller/1"}"#),
            ["of-the-caller/1", "of-the-gateway"]
        );
        for invalid in [
            "null",
            "{}",
            r#"{"x-request-id":null}"#,
            r#"{"x-request-id":""}"#,
            r#"{"x-request-id":"a b"}"#,
            r#"{"x-request-id":"a\nb"}"#,
        ] {
            assert_eq!(ids(invalid), ["of-the-gateway", "of-the-gateway"]);
        }
    }

    #[test]
    fn only_a_valid_traceparent_names_a_trace() {
        let trace = |value: &str| {
            with_headers(&format!(r#"{{"Traceparent":"{value}"}}"#))
                .trace_id()
                .map(str::to_owned)
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(
            trace(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(),
            Some(id)
        );
        for invalid in [
            String::new(),
            format!("ff-{id}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            format!("00-{id}-00f0"),
            format!("00-{id}"),
        ] {
            assert_eq!(trace(&invalid), None, "{invalid}");
        }
    }

    #[test]
    fn a_compressed_body_is_refused_as_such() {
        let code = |encoding: &str| {
            with_headers(&format!(r#"{{"Content-Encoding":"{encoding}"}}"#))
                .body()
                .map(|body| body.to_vec())
                .map_err(|rejection| (rejection.code, rejection.code.http_status()))
        };
        for plain in ["", "identity", " Identity "] {
            assert_eq!(code(plain).unwrap(), b"{}", "{plain}");
        }
        for compressed in ["gzip", "br", "GZIP", "identity, gzip"] {
            assert_eq!(
                code(compressed),
                Err((Code::UnsupportedContentEncoding, 415)),
                "{compressed}"
            );
        }
    }

    /// API Gateway has replaced an invalid byte with U+FFFD.
    #[test]
    fn a_body_that_was_not_utf_8_is_malformed() {
        let body = |text: &str| {
            gateway(&format!(
                r#"{{"httpMethod":"POST","path":"/","body":{text:?},"requestContext":{{}}}}"#
            ))
            .body()
            .map(|body| body.to_vec())
            .map_err(|rejection| rejection.code)
        };
        assert_eq!(body("{'typ\u{fffd}e'}"), Err(Code::MalformedJson));
        assert!(body("{'é'}").is_ok());
    }

    #[test]
    fn only_what_a_header_takes_is_a_request_id() {
        let id = |text: &str| {
            let id = serde_json::to_string(text).unwrap();
            let event = gateway(&format!(
                r#"{{"httpMethod":"GET","path":"/","requestContext":{{"requestId":{id}}}}}"#
            ));
            event.request_id().map(|id| id.as_str().to_owned())
        };
        assert_eq!(
            id("5c96fcb2-3ae2-4e98-8452-2bfca3633ea7").unwrap().len(),
            36
        );
        for wrong in ["", "a b", "a\r\nx-header: 1", "ä", &"a".repeat(129)] {
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
                .unwrap()
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
    fn an_empty_segment_is_an_unknown_route() {
        for (resource, path, proxy) in [
            ("/{proxy+}", "//sign_transaction", "sign_transaction"),
            ("/{proxy+}", "/base//sign_transaction", "/sign_transaction"),
            ("/sign_transaction", "//sign_transaction", ""),
        ] {
            let event = gateway(&format!(
                r#"{{"httpMethod":"POST","resource":"{resource}","path":"{path}","pathParameters":{{"proxy":"{proxy}"}},
                    "requestContext":{{}}}}"#
            ));
            assert_eq!(
                event.segments().unwrap_err().code,
                Code::UnknownRoute,
                "{path}"
            );
        }
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
