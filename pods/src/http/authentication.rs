//! Admits requests of the front door alone, before anything of their bodies is read.

use std::net::SocketAddr;
use std::time::SystemTime;

use axum::Json;
use axum::body::HttpBody as _;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use cloister_contract::{RequestId, events};
use cloister_protocol::front_door::{
    FrontDoorKeys, HEADER, NotFromFrontDoor, REFUSAL_STATUS, REQUEST_ID_HEADER, RequestHead,
};
use cloister_protocol::{Code, Rejection};
use serde_json::json;

use crate::front_door_keys::Keyring;
use crate::http::exchange::Exchange;

/// Passes on a request with a valid MAC. Others end here, and their connections with them: what
/// arrives of a body is not read.
pub(crate) async fn admit_front_door(
    State(keys): State<Keyring>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let verdict = keys.borrow().as_ref().map(|keys| check(keys, &request));
    let mut response = match verdict {
        Some(Ok(())) => return next.run(request).await,
        Some(Err(reason)) => refuse(reason, peer, &request),
        None => Exchange::begin("unknown", request.headers()).answer(Err(Rejection::new(
            Code::NotReady,
            "the pod has no key of the front door yet",
        ))),
    };
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

fn check(keys: &FrontDoorKeys, request: &Request) -> Result<(), NotFromFrontDoor> {
    let mut request_ids = request.headers().get_all(REQUEST_ID_HEADER).into_iter();
    let request_id = request_ids.next().map_or(&[][..], HeaderValue::as_bytes);
    if request_ids.next().is_some() {
        return Err(NotFromFrontDoor::Duplicate);
    }
    // The length by which the server delimits the body, whatever the headers say.
    let content_length = request.body().size_hint().exact();
    let head = RequestHead {
        request_id,
        method: request.method().as_str(),
        target: request
            .uri()
            .path_and_query()
            .map_or("", |target| target.as_str()),
        content_length: content_length.ok_or(NotFromFrontDoor::NoLength)?,
    };
    let values = request.headers().get_all(HEADER);
    let values = values.iter().map(HeaderValue::as_bytes);
    keys.check(values, &head, now())
}

/// The reason is logged and not told.
fn refuse(reason: NotFromFrontDoor, peer: SocketAddr, request: &Request) -> Response {
    let request_id = request.headers().get(REQUEST_ID_HEADER);
    let request_id = request_id.and_then(|value| value.to_str().ok()?.parse::<RequestId>().ok());
    tracing::warn!(
        event = events::NOT_FROM_FRONT_DOOR,
        %reason,
        %peer,
        request_id = request_id.map(tracing::field::display),
        "refused a request that the front door did not authenticate"
    );
    let status = StatusCode::from_u16(REFUSAL_STATUS).expect("a valid status");
    let body = Json(json!({ "error": "the front door did not authenticate this request" }));
    // RFC 9110 §15.5.2 requires a challenge.
    let challenge = [(header::WWW_AUTHENTICATE, HEADER)];
    (status, challenge, body).into_response()
}

/// Seconds since the Unix epoch; 0 before it, when no request is admitted.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
