//! Paths, methods, headers and encodings, through the gateway and the front door.

use cloister_client::Response;
use cloister_e2e::{Local, TRANSFER, eventually, json_body};
use cloister_local::part::Part;
use http::header::{CONTENT_ENCODING, HeaderName};
use http::{HeaderValue, Method};
use serde_json::json;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

async fn send(
    local: &Local,
    method: Method,
    path: &str,
    body: impl Into<Vec<u8>>,
    header: Option<(HeaderName, &'static str)>,
) -> Response {
    let mut request = local.client.request(method, path, body.into()).unwrap();
    if let Some((name, value)) = header {
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    local
        .client
        .sign(&mut request, &local.client.scope("execute-api"))
        .unwrap();
    local.client.send(request).await.unwrap()
}

fn refusal(answer: &Response) -> (u16, String) {
    (answer.status, answer.refusal().expect("a refusal").code)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_by_path_method_and_headers() {
    let local = Local::start().await;
    let key = local.generate().await;
    let sign = key.sign_body(TRANSFER);

    let answer = send(
        &local,
        Method::POST,
        "//sign_transaction",
        sign.clone(),
        None,
    )
    .await;
    assert_eq!(refusal(&answer), (404, "unknown_route".to_owned()));

    let answer = send(&local, Method::HEAD, "/version", "", None).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));

    let answer = send(&local, Method::GET, "/health", "", None).await;
    let ready = json!({ "ready": true, "version": env!("CARGO_PKG_VERSION") });
    assert_eq!(
        (answer.status, json_body(&answer)),
        (200, json!({ "signer": ready, "key_generator": ready }))
    );

    let gzip = Some((CONTENT_ENCODING, "gzip"));
    let compressed = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0][..];
    let answer = send(&local, Method::POST, "/sign_transaction", compressed, gzip).await;
    assert_eq!(
        refusal(&answer),
        (415, "unsupported_content_encoding".to_owned())
    );

    let mut broken = sign.clone().into_bytes();
    let position = sign.find("\"type\"").unwrap() + 1;
    broken[position] = 0xff;
    let answer = send(&local, Method::POST, "/sign_transaction", broken, None).await;
    assert_eq!(refusal(&answer), (400, "malformed_json".to_owned()));

    // A caller's id is in the answer and in the logs of every hop.
    let id = "callers-own-id/1";
    let header = Some((REQUEST_ID, id));
    let answer = send(
        &local,
        Method::POST,
        "/sign_transaction",
        sign.clone(),
        header,
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers[REQUEST_ID], id);
    assert_eq!(answer.headers.get("server-timing"), None);
    for part in [Part::Gateway, Part::SignerPod] {
        eventually(&format!("the id is in the log of {part}"), async || {
            local.log(part).contains(id)
        })
        .await;
    }
    let header = Some((REQUEST_ID, "not an id"));
    let answer = send(&local, Method::POST, "/sign_transaction", sign, header).await;
    assert_ne!(answer.headers[REQUEST_ID], "not an id");
}
