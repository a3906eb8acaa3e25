//! The binary, started as Lambda starts it, with a Runtime API of the test.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Response;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloister_contract::events;
use cloister_lambdas::PodCa;
use cloister_protocol::{Code, Rejection};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};

use crate::event::{
    Answer, ETH_KEY, GATEWAY_ID, KEY_ID, LAMBDA_ID, SECRET, TRANSACTION, gateway, operation_body,
    raw, sign_body,
};
use crate::pod::{KEY, POD_KEY, World};

/// A Lambda environment: events in, answers out.
struct Environment {
    events: mpsc::Sender<String>,
    answers: mpsc::Receiver<(String, String)>,
    address: String,
    server: tokio::runtime::Runtime,
}

struct Api {
    events: Mutex<mpsc::Receiver<String>>,
    answers: mpsc::Sender<(String, String)>,
}

impl Environment {
    /// The server has a separate runtime, so that it can end with all its connections.
    fn start() -> Self {
        let server = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (events, receiver) = mpsc::channel(8);
        let (sender, answers) = mpsc::channel(8);
        let app = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(answer))
            .with_state(Arc::new(Api {
                events: Mutex::new(receiver),
                answers: sender,
            }));
        let listener = server
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap().to_string();
        server.spawn(async move { axum::serve(listener, app).await });
        Self {
            events,
            answers,
            address,
            server,
        }
    }

    async fn invoke(&mut self, event: String) -> (String, String) {
        self.events.send(event).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), self.answers.recv())
            .await
            .unwrap()
            .unwrap()
    }
}

async fn next(State(api): State<Arc<Api>>) -> Response<Body> {
    let event = api.events.lock().await.recv().await;
    match event {
        Some(event) => Response::builder()
            .header("lambda-runtime-aws-request-id", LAMBDA_ID)
            .header("lambda-runtime-deadline-ms", "1790000000000")
            .header(
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:eu-central-1:111122223333:function:front-door",
            )
            .body(event.into())
            .unwrap(),
        None => std::future::pending().await,
    }
}

async fn answer(
    State(api): State<Arc<Api>>,
    Path((id, kind)): Path<(String, String)>,
    body: String,
) -> &'static str {
    assert_eq!(id, LAMBDA_ID);
    api.answers.send((kind, body)).await.unwrap();
    "{}"
}

fn function(runtime_api: &str, variables: &[(&str, &str)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_front-door"))
        .env_clear()
        .envs([
            ("AWS_LAMBDA_RUNTIME_API", runtime_api),
            ("AWS_LAMBDA_FUNCTION_NAME", "front-door"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ])
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[test]
fn events_are_answered_until_the_runtime_api_goes_away() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut environment = Environment::start();
    let (output, answers) = runtime.block_on(async {
        let world = World::start().await;
        let PodCa::File(ca) = &world.settings.pod_ca else {
            panic!("the CA is in a file")
        };
        let ca = STANDARD.encode(std::fs::read(ca).unwrap());
        let child = function(
            &environment.address,
            &[
                ("CLOISTER_SIGNER_URL", world.settings.signer.as_str()),
                (
                    "CLOISTER_KEY_GENERATOR_URL",
                    world.settings.key_generator.as_str(),
                ),
                ("CLOISTER_POD_CA", &ca),
                ("CLOISTER_POD_KEY", POD_KEY),
            ],
        );
        let set = format!(r#"{{"secret":"{SECRET}","eth_key":"{ETH_KEY}"}}"#);
        let mut answers = Vec::new();
        for event in [
            gateway("POST", "/key", Some(&set)),
            raw(operation_body("sign_transaction", &sign_body(TRANSACTION))),
            gateway("POST", "/set_key", Some(&set.replace(&ETH_KEY[..4], ""))),
            raw("{}".into()),
        ] {
            answers.push(environment.invoke(event.get().to_owned()).await);
        }
        // The enclave refuses the secret.
        let refused = Code::AuthenticationFailed;
        world.refuse_with(&Rejection::new(refused, "a sentence"));
        for event in [
            gateway("POST", "/sign_transaction", Some(&sign_body(TRANSACTION))),
            raw(operation_body("sign_transaction", &sign_body(TRANSACTION))),
        ] {
            answers.push(environment.invoke(event.get().to_owned()).await);
        }
        environment.server.shutdown_background();
        let output = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output())
            .await
            .unwrap()
            .unwrap();
        (output, answers)
    });

    // Errors are answers, never errors of the function.
    assert!(answers.iter().all(|(kind, _)| kind == "response"));
    let first = Answer::read(&raw(answers[0].1.clone()));
    assert_eq!(
        (first.status, &first.body["enclave_result"]),
        (200, &serde_json::from_str(KEY).unwrap())
    );
    let direct: Value = serde_json::from_str(&answers[1].1).unwrap();
    assert_eq!(direct["transaction_signed"], json!("0x02f8"));
    assert_eq!(Answer::read(&raw(answers[2].1.clone())).status, 400);
    let refused: Value = serde_json::from_str(&answers[3].1).unwrap();
    assert_eq!(
        (&refused["enclave_status"], &refused["request_id"]),
        (&json!(400), &json!(LAMBDA_ID))
    );

    // The function ends with its Runtime API.
    assert_eq!(output.status.code(), Some(1));
    check_log(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

/// Checks for one line per request, without bodies.
fn check_log(log: &str) {
    for hidden in [
        SECRET,
        ETH_KEY,
        POD_KEY,
        "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf",
    ] {
        assert!(!log.contains(hidden), "{hidden} in {log}");
    }
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let answered: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == events::REQUEST_ANSWERED)
        .collect();
    let sign = json!("sign_transaction");
    let user = json!("arn:aws:iam::111122223333:user/caller");
    let refused = "authentication_failed";
    let key_id = json!(KEY_ID);
    // Request id, form, operation, key id, status, code, caller
    let expected = [
        json!([GATEWAY_ID, "rest", "create_key", null, 200, "ok", null]),
        json!([LAMBDA_ID, "direct", sign, key_id, 200, "ok", null]),
        json!([
            GATEWAY_ID,
            "route",
            "set_key",
            null,
            400,
            "invalid_field",
            null
        ]),
        json!([LAMBDA_ID, "direct", null, null, 400, "missing_field", null]),
        json!([GATEWAY_ID, "route", sign, key_id, 403, refused, user]),
        json!([LAMBDA_ID, "direct", sign, key_id, 403, refused, "direct"]),
    ];
    assert_eq!(answered.len(), expected.len(), "{log}");
    for (line, expected) in answered.into_iter().zip(expected) {
        let span = &line["span"];
        let found = json!([
            span["request_id"],
            span["form"],
            span["operation"],
            span["key_id"],
            line["status"],
            line["code"],
            line["caller"],
        ]);
        assert_eq!(found, expected, "{line}");
        assert!(line["ms"].is_number(), "{line}");
    }
}

#[tokio::test]
async fn a_wrong_environment_ends_the_function_and_is_explained() {
    let child = function("127.0.0.1:1", &[("CLOISTER_SIGNER_URL", "http://signer")]);
    let output = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stdout).unwrap();
    for mistake in [
        "CLOISTER_SIGNER_URL must be",
        "CLOISTER_KEY_GENERATOR_URL is not",
        "CLOISTER_POD_CA_FILE is not",
        "CLOISTER_POD_KEY is not",
    ] {
        assert!(log.contains(mistake), "{log}");
    }
}

/// An error and its source, which is the file system's.
#[tokio::test]
async fn the_cause_of_an_error_reaches_the_log() {
    let child = function(
        "127.0.0.1:1",
        &[
            ("CLOISTER_SIGNER_URL", "https://signer"),
            ("CLOISTER_KEY_GENERATOR_URL", "https://key-generator"),
            ("CLOISTER_POD_CA_FILE", "/nowhere/ca.pem"),
            ("CLOISTER_POD_KEY", POD_KEY),
        ],
    );
    let output = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["event"], events::PROGRAM_FAILED, "{line}");
    let error = line["error"].as_str().unwrap();
    let (outer, cause) = error.split_once(": ").unwrap();
    assert!(
        outer.contains("CLOISTER_POD_CA_FILE") && cause.contains("No such file"),
        "{line}"
    );
}
