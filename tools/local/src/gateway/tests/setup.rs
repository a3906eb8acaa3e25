//! A gateway with a function of the test's own.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloister_client::{Client, Credentials};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempPath};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::gateway::invocation;
use crate::gateway::runtime_api::RuntimeApi;
use crate::gateway::server::Server;

pub(super) const REGION: &str = "eu-central-1";
pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(super) const TOKEN: &str = "the-session-token-of-temporary-credentials";
pub(super) const ARN: &str = "arn:aws:lambda:eu-central-1:111122223333:function:front-door";

/// The function's reaction to an event.
pub(super) enum Reply {
    Result(String),
    Error(String),
    Nothing,
}

/// A running gateway; its tasks end with it.
pub(super) struct Setup {
    pub(super) address: SocketAddr,
    /// The events that the function was given.
    pub(super) events: Arc<Mutex<Vec<Value>>>,
    /// The callers' file, read for every request.
    pub(super) callers: TempPath,
    _tasks: JoinSet<()>,
}

/// A callers' file with temporary and long-term credentials.
pub(super) fn callers() -> TempPath {
    let caller = |id: &str, token: &str| {
        json!({
            "access_key_id": id, "secret_access_key": SECRET, "session_token": token,
            "principal_arn": "arn:aws:iam::111122223333:role/caller",
        })
    };
    let callers = [caller("ASIATEMPORARY", TOKEN), caller("AKIALONGLIVED", "")];
    let file = NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&file, json!({ "principals": callers }).to_string()).unwrap();
    file
}

/// A proxy response with status 200 and the event as its body.
pub(super) fn echo(event: &Value) -> Reply {
    Reply::Result(
        json!({ "statusCode": 200, "headers": { "x-from": "function" }, "body": event.to_string() }).to_string(),
    )
}

impl Setup {
    /// A gateway that waits `integration` for `function`.
    pub(super) async fn start(integration: Duration, function: fn(&Value) -> Reply) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (invoker, queue) = invocation::channel();
        let callers = callers();
        let server = Server {
            callers: callers.to_path_buf(),
            region: REGION.into(),
            function: "front-door".into(),
            invoker,
            integration,
        };
        let api = RuntimeApi::bind(queue, ARN.into(), Duration::from_secs(30))
            .await
            .unwrap();
        let runtime_api = api.address();
        let events = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(listener, CancellationToken::new()));
        tasks.spawn(async move {
            api.serve().await;
        });
        tasks.spawn(work(runtime_api, events.clone(), function));
        Self {
            address,
            events,
            callers,
            _tasks: tasks,
        }
    }

    pub(super) async fn with(function: fn(&Value) -> Reply) -> Self {
        Self::start(Duration::from_secs(29), function).await
    }

    pub(super) fn client_of(&self, region: &str, credentials: Credentials) -> Client {
        Client::new(
            &format!("http://{}", self.address),
            region,
            credentials,
            None,
        )
        .unwrap()
    }

    pub(super) fn client(&self) -> Client {
        self.client_of(
            REGION,
            Credentials::new("ASIATEMPORARY", SECRET, Some(TOKEN)),
        )
    }
}

/// The loop of a Lambda runtime.
async fn work(api: SocketAddr, events: Arc<Mutex<Vec<Value>>>, function: fn(&Value) -> Reply) {
    let invocations = format!("http://{api}/2018-06-01/runtime/invocation");
    let http = http();
    loop {
        let next = http
            .get(format!("{invocations}/next"))
            .send()
            .await
            .unwrap();
        let header = |name: &str| next.headers()[name].to_str().unwrap().to_owned();
        let id = header("lambda-runtime-aws-request-id");
        assert_eq!(header("lambda-runtime-invoked-function-arn"), ARN);
        assert!(header("lambda-runtime-deadline-ms").parse::<u64>().is_ok());
        let event: Value = serde_json::from_slice(&next.bytes().await.unwrap()).unwrap();
        let (kind, body) = match function(&event) {
            Reply::Result(body) => ("response", body),
            Reply::Error(body) => ("error", body),
            Reply::Nothing => std::future::pending().await,
        };
        events.lock().unwrap().push(event);
        let answer = http
            .post(format!("{invocations}/{id}/{kind}"))
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 202);
    }
}

pub(super) fn http() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Waits until `condition` succeeds.
pub(super) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
