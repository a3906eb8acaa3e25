//! Events that reach the function and answers that come back, for API requests and direct invokes.

use std::time::Duration;

use cloister_client::Response;
use http::Method;
use serde_json::{Value, json};

use super::setup::{ARN, Reply, Setup, echo, http};
use crate::gateway::invocation::{self, FunctionError};
use crate::gateway::runtime_api::RuntimeApi;

fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

#[tokio::test]
async fn the_function_gets_the_proxy_event_and_its_response_comes_back() {
    let setup = Setup::with(echo).await;
    let exact = r#"{ "value": 0.1000, "text": "ä\u0061" }"#;
    let response = setup
        .client()
        .post("/key/7e99/tx_signature?q=1", exact)
        .await
        .unwrap();
    assert_eq!(
        (response.status, &response.headers["x-from"]),
        (200, &"function".parse().unwrap())
    );
    let event = body(&response);
    assert_eq!(
        event["requestContext"]["requestId"],
        response.headers["x-amzn-requestid"].to_str().unwrap()
    );
    assert_eq!(
        (&event["resource"], &event["httpMethod"]),
        (&json!("/key/{key_id}/tx_signature"), &json!("POST"))
    );
    assert_eq!(
        (&event["body"], &event["queryStringParameters"]),
        (&json!(exact), &json!({ "q": "1" }))
    );
    assert_eq!(
        event["requestContext"]["identity"]["userArn"],
        "arn:aws:iam::111122223333:role/caller"
    );
    assert_eq!(event["headers"].get("authorization"), None);
    assert_eq!(event["headers"].get("x-amz-security-token"), None);
}

#[tokio::test]
async fn paths_and_methods_reach_the_function_unchanged() {
    let setup = Setup::with(echo).await;
    let client = setup.client();
    for (method, path) in [
        (Method::POST, "//sign_transaction"),
        (Method::POST, "/key/a%20b/tx_signature"),
        (Method::POST, "/key/%7Bid%7D/userop_signature"),
        (Method::POST, "/key/%C3%A4/tx_signature"),
        (Method::HEAD, "/version"),
    ] {
        let mut request = client.request(method.clone(), path, "").unwrap();
        client
            .sign(&mut request, &client.scope("execute-api"))
            .unwrap();
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status, 200, "{method} {path}");
        let event = setup.events.lock().unwrap().pop().unwrap();
        assert_eq!(
            (&event["httpMethod"], &event["path"]),
            (&json!(method.as_str()), &json!(path))
        );
        // HEAD is answered with the headers of GET only.
        assert_eq!(response.body.is_empty(), method == Method::HEAD);
        let length: usize = response.headers["content-length"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(length, event.to_string().len());
    }
}

#[tokio::test]
async fn bodies_over_ten_megabytes_are_refused() {
    let setup = Setup::with(echo).await;
    let response = setup
        .client()
        .post("/generate_key", vec![b' '; 10 * 1024 * 1024 + 1])
        .await
        .unwrap();
    assert_eq!(
        (response.status, body(&response)),
        (
            413,
            json!({ "message": "HTTP content length exceeded 10485760 bytes." })
        )
    );
    assert!(setup.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_function_that_says_nothing_times_out() {
    let setup = Setup::start(Duration::from_millis(300), |_| Reply::Nothing).await;
    let response = setup.client().post("/generate_key", "{}").await.unwrap();
    assert_eq!(
        (response.status, body(&response)),
        (504, json!({ "message": "Endpoint request timed out" }))
    );
}

#[tokio::test]
async fn errors_and_malformed_responses_are_internal_server_errors() {
    let setup = Setup::with(|event| match event["path"].as_str() {
        Some("/error") => {
            Reply::Error(r#"{"errorType":"t","errorMessage":"internal detail"}"#.into())
        }
        _ => Reply::Result(event["body"].as_str().unwrap_or_default().to_owned()),
    })
    .await;
    let client = setup.client();
    for (path, sent) in [
        ("/error", "{}"),
        ("/malformed", "{}"),
        ("/malformed", "not JSON"),
        ("/malformed", r#"{"statusCode":200,"body":{}}"#),
        ("/malformed", r#"{"statusCode":200,"unknown":1}"#),
    ] {
        let response = client.post(path, sent).await.unwrap();
        assert_eq!(
            (response.status, body(&response)),
            (502, json!({ "message": "Internal server error" })),
            "{sent}"
        );
    }
}

#[tokio::test]
async fn direct_invokes_pass_the_event_and_the_result() {
    let setup = Setup::with(|event| match event["fail"].as_bool() {
        Some(true) => Reply::Error(r#"{"errorType":"t","errorMessage":"m"}"#.into()),
        _ => Reply::Result(json!({ "given": event }).to_string()),
    })
    .await;
    let client = setup.client();
    let response = client
        .invoke("front-door", r#"{"operation":"generate_key"}"#)
        .await
        .unwrap();
    assert_eq!(
        (response.status, body(&response)),
        (200, json!({ "given": { "operation": "generate_key" } }))
    );
    assert_eq!(response.headers["x-amz-executed-version"], "$LATEST");
    assert!(response.headers.get("x-amz-function-error").is_none());

    let failed = client
        .invoke("front-door", r#"{"fail":true}"#)
        .await
        .unwrap();
    assert_eq!(
        (failed.status, &failed.headers["x-amz-function-error"]),
        (200, &"Unhandled".parse().unwrap())
    );
    assert_eq!(
        body(&failed),
        json!({ "errorType": "t", "errorMessage": "m" })
    );

    for (name, event, status, kind) in [
        ("another", "{}", 404, "ResourceNotFoundException"),
        ("front-door", "{", 400, "InvalidRequestContentException"),
    ] {
        let refused = client.invoke(name, event).await.unwrap();
        assert_eq!(
            (
                refused.status,
                refused.headers["x-amzn-errortype"].to_str().unwrap()
            ),
            (status, kind)
        );
    }
    let path = "/2015-03-31/functions/front-door/invocations";
    let mut request = client.request(Method::POST, path, "{}").unwrap();
    request
        .headers_mut()
        .insert("x-amz-invocation-type", "Event".parse().unwrap());
    client.sign(&mut request, &client.scope("lambda")).unwrap();
    assert_eq!(client.send(request).await.unwrap().status, 400);
    assert_eq!(setup.events.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn the_runtime_api_takes_one_answer_per_event_and_in_time() {
    let (invoker, queue) = invocation::channel();
    let api = RuntimeApi::bind(queue, ARN.into(), Duration::from_millis(200))
        .await
        .unwrap();
    let invocations = format!("http://{}/2018-06-01/runtime/invocation", api.address());
    let http = http();
    let next = async || {
        let next = http
            .get(format!("{invocations}/next"))
            .send()
            .await
            .unwrap();
        next.headers()["lambda-runtime-aws-request-id"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    let answer = async |id: &str| {
        http.post(format!("{invocations}/{id}/response"))
            .body("1")
            .send()
            .await
            .unwrap()
    };
    let scenario = async {
        let first = invoker.invoke("a".into(), "{}".into());
        let (outcome, ()) = tokio::join!(first, async {
            let id = next().await;
            assert_eq!(answer("another").await.status(), 400);
            assert_eq!(answer(&id).await.status(), 202);
            assert_eq!(answer(&id).await.status(), 400);
        });
        assert_eq!(outcome, Ok("1".into()));

        // A process that asks for more has given up on what it had.
        let (given_up, answered, ()) = tokio::join!(
            invoker.invoke("b".into(), "1".into()),
            invoker.invoke("c".into(), "2".into()),
            async {
                next().await;
                let id = next().await;
                answer(&id).await;
            }
        );
        assert_eq!(
            (given_up, answered),
            (Err(FunctionError::Exited), Ok("1".into()))
        );

        // One that takes too long is reported, and what it had is answered.
        let late = FunctionError::TimedOut(Duration::from_millis(200));
        let (outcome, ()) = tokio::join!(invoker.invoke("d".into(), "3".into()), async {
            next().await;
            api.overdue().await;
            api.fail(late.clone());
        });
        assert_eq!(outcome, Err(late));
    };
    tokio::select! {
        never = api.serve() => match never {},
        () = scenario => {}
    }
}
