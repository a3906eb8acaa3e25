//! A fake of AWS: STS, the table, KMS and a secret, over TLS. Records requests.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::tls_rustls::{RustlsConfig, from_tcp_rustls};
use serde_json::{Value, json};

/// A fake of AWS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aws(Arc<Mutex<Asked>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Operations, in order.
    pub(crate) operations: Vec<String>,
    /// Requests for data keys, in order.
    pub(crate) data_keys: Vec<Value>,
    /// The callers' addresses.
    pub(crate) connections: BTreeSet<SocketAddr>,
    /// The answer to every further call, instead of a success.
    fault: Option<Fault>,
    /// Staging label, version and text of the secret.
    secret: Vec<(String, String, String)>,
}

/// Status, code (in the header and, for STS, the body) and body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: u16,
    pub(crate) code: Option<&'static str>,
    pub(crate) body: &'static str,
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let code = self.code.map(|code| [("x-amzn-errortype", code)]);
        let status = StatusCode::from_u16(self.status).unwrap();
        (status, code, self.body).into_response()
    }
}

impl Aws {
    /// Serves on a free port with cert.pem and key.pem of `directory`; returns its URL too.
    pub(crate) async fn start(directory: &Path) -> (Self, String) {
        let aws = Self::default();
        let tls =
            RustlsConfig::from_pem_file(directory.join("cert.pem"), directory.join("key.pem"))
                .await
                .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let routes = Router::new()
            .route("/", post(answer))
            .with_state(aws.clone());
        let serving = from_tcp_rustls(listener, tls).unwrap();
        tokio::spawn(serving.serve(routes.into_make_service_with_connect_info::<SocketAddr>()));
        (aws, format!("https://localhost:{port}"))
    }

    /// Answers every further call with `fault`, or normally again.
    pub(crate) fn fail(&self, fault: Option<Fault>) {
        self.0.lock().unwrap().fault = fault;
    }

    /// The secret's versions: label, id and text.
    pub(crate) fn set_secret(&self, versions: &[(&str, &str, &str)]) {
        self.0.lock().unwrap().secret = versions
            .iter()
            .map(|&(label, id, text)| (label.to_owned(), id.to_owned(), text.to_owned()))
            .collect();
    }

    pub(crate) fn asked(&self) -> Asked {
        self.0.lock().unwrap().clone()
    }
}

async fn answer(
    State(aws): State<Aws>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let target = headers
        .get("x-amz-target")
        .map(|target| target.to_str().unwrap().to_owned());
    let operation = target.unwrap_or_else(|| "DynamoDB or STS?".into());
    let is_secret = operation == "secretsmanager.GetSecretValue";
    let is_sts = body.starts_with("Action=AssumeRoleWithWebIdentity");
    {
        let mut asked = aws.0.lock().unwrap();
        if operation == "TrentService.GenerateDataKey" {
            asked.data_keys.push(serde_json::from_str(&body).unwrap());
        }
        asked.operations.push(if is_sts {
            "AssumeRoleWithWebIdentity".into()
        } else {
            operation
        });
        asked.connections.insert(peer);
        if let Some(fault) = asked.fault {
            return fault.into_response();
        }
    }
    if is_sts {
        credentials().into_response()
    } else if is_secret {
        version(&aws, &serde_json::from_str(&body).unwrap())
    } else {
        item(&serde_json::from_str(&body).unwrap())
            .to_string()
            .into_response()
    }
}

/// The version with the label of the request.
fn version(aws: &Aws, request: &Value) -> Response {
    let secret = aws.0.lock().unwrap().secret.clone();
    let wanted = request["VersionStage"].as_str().unwrap();
    match secret.into_iter().find(|(label, ..)| label == wanted) {
        Some((label, id, text)) => json!({
            "ARN": request["SecretId"],
            "VersionId": id,
            "VersionStages": [label],
            "SecretString": text,
        })
        .to_string()
        .into_response(),
        None => Fault {
            status: 400,
            code: Some("ResourceNotFoundException"),
            body: r#"{"__type":"ResourceNotFoundException","Message":"words of AWS"}"#,
        }
        .into_response(),
    }
}

fn credentials() -> String {
    let fields = "<AccessKeyId>AKIDFROMSTS</AccessKeyId><SecretAccessKey>topsecretaccesskey</SecretAccessKey>\
        <SessionToken>topsecrettoken</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>";
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials>{fields}</Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>"
    )
}

/// A row for any key.
fn item(request: &Value) -> Value {
    json!({ "Item": {
        "key_id": request["Key"]["key_id"],
        "address": { "S": "0xe06C2c216fC36E2d40fB0199623032CC17b3B41b" },
        "version": { "N": "1" },
        "created_at": { "N": "1800000000" },
        "sealed": { "M": { "arn:aws:kms:eu-central-1:111122223333:key/1234abcd": { "B": "AQID" } } },
    }})
}
