//! The DynamoDB endpoint of the stack: TLS, signatures, rights and full table ARNs in front of
//! dynalite, which knows none of these.
//!
//! dynalite takes table names only, and accepts any signature. Here the signature is verified,
//! every role may do what its policy on AWS allows and no more, and a `TableName` that is the
//! table's ARN is replaced by the name. Everything else passes unchanged.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use chrono::Utc;
use cloister_contract::ErrorChain;
use cloister_stand_in::StandInError;
use cloister_stand_in::faults::{self, Faults};
use cloister_stand_in::https::{self, Server};
use cloister_stand_in::principals::Principals;
use cloister_stand_in::sigv4::{Scope, SignatureError, verify};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::identity::{ADMINISTRATOR_ROLE, KEY_GENERATOR_ROLE, SIGNER_ROLE, role_arn};

/// Settings of the endpoint.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    https: https::Options,
    /// The unix socket that dynalite listens on.
    #[arg(long)]
    dynalite: PathBuf,
    /// File of principals that may call, JSON.
    #[arg(long)]
    principals: PathBuf,
    /// The region that requests are signed for.
    #[arg(long)]
    region: String,
    /// ARN of the table.
    #[arg(long)]
    table_arn: String,
}

/// Starts the endpoint. Must be called within a Tokio runtime.
///
/// # Errors
/// If a file cannot be used or the address cannot be bound.
pub fn start(options: Options) -> Result<Server, StandInError> {
    // Read again for every call; a mistake in it should show at the start.
    Principals::read(&options.principals)?;
    let table_name = options.table_arn.rsplit('/').next().unwrap_or_default();
    let endpoint = Endpoint {
        principals: options.principals,
        region: options.region,
        table_name: table_name.to_owned(),
        table_arn: options.table_arn,
        dynalite: options.dynalite,
        faults: Faults::new(&EXCEPTIONS),
    };
    let injected = endpoint.faults.router();
    let router = Router::new()
        .fallback(handle)
        .with_state(Arc::new(endpoint))
        .merge(injected);
    Server::start(&options.https, router)
}

#[derive(Debug)]
struct Endpoint {
    principals: PathBuf,
    region: String,
    table_arn: String,
    table_name: String,
    dynalite: PathBuf,
    faults: Faults,
}

/// An exception in DynamoDB's form.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    exception: &'static str,
    message: String,
}

impl Refusal {
    fn new(exception: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            exception,
            message: message.into(),
        }
    }

    fn internal(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Self::new("InternalServerError", message)
        }
    }

    fn of_signature(error: &SignatureError) -> Self {
        match error {
            SignatureError::InvalidClientTokenId(_) => Self::new(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ),
            SignatureError::ExpiredToken(_) => Self::new(
                "ExpiredTokenException",
                "The security token included in the request is expired",
            ),
            SignatureError::MissingAuthenticationToken(_) => Self::new(
                "MissingAuthenticationTokenException",
                "Request is missing Authentication Token",
            ),
            _ => Self::new(
                "InvalidSignatureException",
                "The signature of the request does not match.",
            ),
        }
    }

    fn into_response(self) -> Response {
        let body = json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{}", self.exception), "message": self.message });
        (
            self.status,
            [("content-type", "application/x-amz-json-1.0")],
            body.to_string(),
        )
            .into_response()
    }
}

async fn handle(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let operation = operation(request.headers()).unwrap_or_default().to_owned();
    let outcome = endpoint.answer(&operation, request).await;
    let status = outcome
        .as_ref()
        .map_or_else(|refusal| refusal.status, Response::status);
    // Neither names of principals' keys nor items are logged.
    tracing::info!(%operation, status = status.as_u16(), refused = outcome.as_ref().err().map(|refusal| refusal.exception), "call");
    outcome.unwrap_or_else(Refusal::into_response)
}

impl Endpoint {
    async fn answer(&self, operation: &str, request: Request) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, MAX_BODY_LEN)
            .await
            .map_err(|_| Refusal::new("SerializationException", "too large"))?;
        let headers = parts.headers.clone();
        let role = self.authenticate(parts, body.clone()).await?;
        if !may(&role, operation) {
            let message =
                format!("User: {role} is not authorized to perform: dynamodb:{operation}");
            return Err(Refusal::new("AccessDeniedException", message));
        }
        if let Some(exception) = self.faults.take(operation) {
            return Err(Refusal::new(exception, faults::MESSAGE));
        }
        let body = self.with_table_name(&body)?;
        self.forward(&headers, body)
            .await
            .map_err(|error| Refusal::internal(format!("dynalite: {error:#}")))
    }

    /// Verifies the signature and the session token; returns the ARN of the caller's role.
    async fn authenticate(&self, parts: Parts, body: Bytes) -> Result<String, Refusal> {
        let principals = Principals::read(&self.principals)
            .map_err(|error| Refusal::internal(ErrorChain(&error).to_string()))?;
        let scope = Scope {
            region: &self.region,
            service: "dynamodb",
            window_minutes: 15,
        };
        let request = http::Request::from_parts(parts, body);
        match verify(request, &principals, &scope, Utc::now()).await {
            Ok((_, _, principal)) => Ok(principal.principal_arn),
            Err(error) => Err(Refusal::of_signature(&error)),
        }
    }

    /// The body with the table's name in place of its ARN; the ARN of another table does not exist
    /// here.
    fn with_table_name(&self, body: &Bytes) -> Result<Bytes, Refusal> {
        let mut request: Value = serde_json::from_slice(body)
            .map_err(|_| Refusal::new("SerializationException", "not JSON"))?;
        match request.get("TableName").and_then(Value::as_str) {
            Some(name) if name == self.table_arn => request["TableName"] = json!(self.table_name),
            Some(name) if name.starts_with("arn:") => {
                return Err(Refusal::new(
                    "ResourceNotFoundException",
                    "Requested resource not found",
                ));
            }
            _ => return Ok(body.clone()),
        }
        Ok(request.to_string().into())
    }

    /// Hands a request to dynalite, over a connection of its own: opening a unix socket costs
    /// nothing.
    async fn forward(&self, headers: &HeaderMap, body: Bytes) -> anyhow::Result<Response> {
        let stream = UnixStream::connect(&self.dynalite)
            .await
            .context("failed to connect")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .context("failed to talk")?;
        tokio::spawn(connection);
        let mut request = http::Request::post("/").header("host", "dynalite");
        for name in [
            "authorization",
            "content-type",
            "x-amz-date",
            "x-amz-target",
        ] {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::new(body)).context("malformed request")?;
        let (parts, body) = sender
            .send_request(request)
            .await
            .context("no answer")?
            .into_parts();
        let body = body
            .collect()
            .await
            .context("the answer breaks off")?
            .to_bytes();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = parts.status;
        for name in ["content-type", "x-amzn-requestid", "x-amz-crc32"] {
            if let Some(value) = parts.headers.get(name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Ok(response)
    }
}

/// The rights of each role on AWS: only the key generator writes, the signer's pod reads
/// one row at a time.
fn may(role: &str, operation: &str) -> bool {
    let is = |name| role == role_arn(name);
    is(ADMINISTRATOR_ROLE)
        || is(KEY_GENERATOR_ROLE)
            && ["DescribeTable", "GetItem", "PutItem", "UpdateItem"].contains(&operation)
        || is(SIGNER_ROLE) && operation == "GetItem"
}

fn operation(headers: &HeaderMap) -> Option<&str> {
    headers
        .get("x-amz-target")?
        .to_str()
        .ok()?
        .strip_prefix("DynamoDB_20120810.")
}

/// Exceptions that can be injected.
const EXCEPTIONS: [&str; 5] = [
    "AccessDeniedException",
    "InternalServerError",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
];
/// DynamoDB's own limit for one request, in bytes.
const MAX_BODY_LEN: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::table_arn;

    fn endpoint() -> Endpoint {
        Endpoint {
            principals: PathBuf::new(),
            region: "eu-central-1".into(),
            table_arn: table_arn(),
            table_name: "cloister-keys".into(),
            dynalite: PathBuf::new(),
            faults: Faults::new(&EXCEPTIONS),
        }
    }

    #[test]
    fn the_arn_of_the_table_becomes_its_name() {
        let body = json!({ "TableName": table_arn(), "Key": { "key_id": { "S": "x" } } })
            .to_string()
            .into();
        let rewritten: Value =
            serde_json::from_slice(&endpoint().with_table_name(&body).unwrap()).unwrap();
        assert_eq!(
            rewritten,
            json!({ "TableName": "cloister-keys", "Key": { "key_id": { "S": "x" } } })
        );

        let other = json!({ "TableName": table_arn().replace("111122223333", "999999999999") })
            .to_string()
            .into();
        assert_eq!(
            endpoint().with_table_name(&other).unwrap_err().exception,
            "ResourceNotFoundException"
        );
    }

    #[test]
    fn only_the_key_generator_writes() {
        assert!(may(&role_arn(KEY_GENERATOR_ROLE), "PutItem"));
        assert!(may(&role_arn(SIGNER_ROLE), "GetItem"));
        for operation in ["PutItem", "UpdateItem", "DeleteItem", "Scan", ""] {
            assert!(!may(&role_arn(SIGNER_ROLE), operation), "{operation}");
        }
        assert!(!may(&role_arn(KEY_GENERATOR_ROLE), "DeleteItem"));
    }
}
