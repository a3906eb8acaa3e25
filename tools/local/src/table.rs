//! The DynamoDB endpoint of the stack: TLS, signatures, rights and full table ARNs in front of
//! dynalite, which knows none of these.
//!
//! dynalite takes table names only, and accepts any signature. Here the signature is verified,
//! every role may do what its policy on AWS allows and no more, and a `TableName` that is the
//! table's ARN is replaced by the name. Everything else passes unchanged.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use bytes::Bytes;
use chrono::Utc;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use scratchstack_aws_signature::{
    GetSigningKeyRequest, GetSigningKeyResponse, KSecretKey, NO_ADDITIONAL_SIGNED_HEADERS,
    SignatureError, SignatureOptions,
    principal::{SessionData, SessionValue},
    sigv4_validate_request,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tower::{BoxError, service_fn};

use crate::identity::{ADMINISTRATOR_ROLE, Identity, KEY_GENERATOR_ROLE, SIGNER_ROLE, role_arn};

/// How the endpoint is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Loopback address to listen on.
    pub listen: SocketAddr,
    /// Where the bound address is written to, once listening.
    pub address_file: PathBuf,
    /// Server certificate, PEM.
    pub tls_cert: PathBuf,
    /// Its private key, PEM.
    pub tls_key: PathBuf,
    /// The unix socket that dynalite listens on.
    pub dynalite: PathBuf,
    /// Who may call.
    pub principals: PathBuf,
    /// The region that requests are signed for.
    pub region: String,
    /// The ARN of the one table.
    pub table_arn: String,
}

/// Serves until `stop` resolves.
///
/// # Errors
/// When it cannot read its files or listen.
pub async fn serve(options: Options, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let principals =
        std::fs::read(&options.principals).context("cannot read the file of principals")?;
    let Principals { principals } = serde_json::from_slice(&principals)
        .map_err(|_| anyhow::anyhow!("the file of principals is malformed"))?;
    let name = options
        .table_arn
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let endpoint = Endpoint {
        principals: principals.into(),
        region: options.region,
        table_arn: options.table_arn,
        table_name: name,
        dynalite: options.dynalite,
        fault: Mutex::default(),
    };
    let router = Router::new()
        .route("/_local/faults", post(set_fault))
        .fallback(handle)
        .with_state(Arc::new(endpoint));

    let tls = RustlsConfig::from_config(Arc::new(tls(&options.tls_cert, &options.tls_key)?));
    let handle = axum_server::Handle::new();
    let server = axum_server::bind_rustls(options.listen, tls)
        .handle(handle.clone())
        .serve(router.into_make_service());
    let server = tokio::spawn(server);
    let address = handle.listening().await.context("cannot listen")?;
    let written = options.address_file.with_extension("new");
    std::fs::write(&written, json!({ "https": address }).to_string())
        .context("cannot write the address file")?;
    std::fs::rename(&written, &options.address_file).context("cannot write the address file")?;
    tracing::info!(%address, "listening");

    stop.await;
    handle.graceful_shutdown(Some(std::time::Duration::from_secs(1)));
    server
        .await
        .context("the server panicked")?
        .context("the server failed")
}

/// HTTP/1.1 only, like the real endpoint: HTTP/2 has no `host` header, which the signature covers.
fn tls(certificate: &Path, key: &Path) -> anyhow::Result<ServerConfig> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .context("cannot read the certificate");
    let key =
        PrivateKeyDer::from_pem_file(key).context("cannot read the key of the certificate")?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain?, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Endpoint {
    principals: Arc<[Identity]>,
    region: String,
    table_arn: String,
    table_name: String,
    dynalite: PathBuf,
    fault: Mutex<Option<Fault>>,
}

/// A failure that a test asks for: the next `count` calls of `operation` are answered with `error`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    operation: String,
    error: String,
    count: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Principals {
    principals: Vec<Identity>,
}

/// An answer of DynamoDB's own shape that refuses.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    exception: String,
    message: String,
}

impl Refusal {
    fn new(exception: &str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            exception: exception.to_owned(),
            message: message.into(),
        }
    }

    fn internal(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Self::new("InternalServerError", message)
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

/// Needs no signature: the server listens on loopback only.
async fn set_fault(State(endpoint): State<Arc<Endpoint>>, body: Bytes) -> StatusCode {
    match serde_json::from_slice(&body) {
        Ok(fault) => {
            *endpoint
                .fault
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(fault);
            StatusCode::NO_CONTENT
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

async fn handle(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let operation = operation(request.headers()).unwrap_or_default().to_owned();
    let outcome = endpoint.answer(&operation, request).await;
    let status = outcome
        .as_ref()
        .map_or_else(|refusal| refusal.status, Response::status);
    // Neither names of principals' keys nor items are logged.
    tracing::info!(%operation, status = status.as_u16(), refused = outcome.as_ref().err().map(|refusal| &refusal.exception[..]), "call");
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
        self.fail_if_asked_to(operation)?;
        let body = self.with_table_name(&body)?;
        self.forward(&headers, body)
            .await
            .map_err(|error| Refusal::internal(format!("dynalite: {error:#}")))
    }

    /// Verifies the signature and the session token; returns the ARN of the caller's role.
    async fn authenticate(&self, parts: Parts, body: Bytes) -> Result<String, Refusal> {
        // Owned, because a future that borrows from here cannot be shown to be `Send`.
        let principals = Arc::clone(&self.principals);
        let mut signing_key = service_fn(move |request: GetSigningKeyRequest| {
            std::future::ready(signing_key(&principals, &request))
        });
        let (_, _, verified) = sigv4_validate_request(
            http::Request::from_parts(parts, body),
            &self.region,
            "dynamodb",
            &mut signing_key,
            Utc::now(),
            &NO_ADDITIONAL_SIGNED_HEADERS,
            SignatureOptions::default(),
        )
        .await
        .map_err(|error| match error.downcast_ref::<SignatureError>() {
            Some(SignatureError::InvalidClientTokenId(_)) => Refusal::new(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ),
            Some(SignatureError::MissingAuthenticationToken(_)) => Refusal::new(
                "MissingAuthenticationTokenException",
                "Request is missing Authentication Token",
            ),
            _ => Refusal::new(
                "InvalidSignatureException",
                "The signature of the request does not match.",
            ),
        })?;
        match verified.session_data().get(PRINCIPAL_ARN) {
            Some(SessionValue::String(arn)) => Ok(arn.clone()),
            _ => Err(Refusal::internal("a verified signature of nobody")),
        }
    }

    fn fail_if_asked_to(&self, operation: &str) -> Result<(), Refusal> {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match fault
            .as_mut()
            .filter(|fault| fault.operation == operation && fault.count > 0)
        {
            Some(fault) => {
                fault.count -= 1;
                Err(Refusal::new(&fault.error, "a fault that a test asked for"))
            }
            None => Ok(()),
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
            .context("cannot connect")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .context("cannot talk")?;
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

/// What the roles' policies allow on AWS: the key generator alone writes, the signer's pod reads
/// one row at a time.
fn may(role: &str, operation: &str) -> bool {
    let is = |name| role == role_arn(name);
    is(ADMINISTRATOR_ROLE)
        || is(KEY_GENERATOR_ROLE)
            && ["DescribeTable", "GetItem", "PutItem", "UpdateItem"].contains(&operation)
        || is(SIGNER_ROLE) && operation == "GetItem"
}

fn signing_key(
    principals: &[Identity],
    request: &GetSigningKeyRequest,
) -> Result<GetSigningKeyResponse, BoxError> {
    let unknown = || SignatureError::InvalidClientTokenId("unknown".into());
    let principal = principals
        .iter()
        .find(|principal| principal.access_key_id == request.access_key())
        .ok_or_else(unknown)?;
    let token = request.session_token().unwrap_or_default();
    verify_slices_are_equal(token.as_bytes(), principal.session_token.as_bytes())
        .map_err(|_| unknown())?;
    let secret: KSecretKey = principal.secret_access_key.parse()?;
    let key = secret.to_ksigning(request.request_date(), request.region(), request.service());
    let mut session = SessionData::new();
    session.insert(
        PRINCIPAL_ARN,
        SessionValue::String(principal.principal_arn.clone()),
    );
    Ok(GetSigningKeyResponse::builder()
        .session_data(session)
        .signing_key(key)
        .build()?)
}

fn operation(headers: &HeaderMap) -> Option<&str> {
    headers
        .get("x-amz-target")?
        .to_str()
        .ok()?
        .strip_prefix("DynamoDB_20120810.")
}

const PRINCIPAL_ARN: &str = "aws:PrincipalArn";
/// DynamoDB's own limit for one request, in bytes.
const MAX_BODY_LEN: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::table_arn;

    fn endpoint() -> Endpoint {
        Endpoint {
            principals: Arc::new([]),
            region: "eu-central-1".into(),
            table_arn: table_arn(),
            table_name: "cloister-keys".into(),
            dynalite: PathBuf::new(),
            fault: Mutex::default(),
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

    #[test]
    fn a_fault_is_met_as_often_as_asked() {
        let endpoint = endpoint();
        *endpoint.fault.lock().unwrap() = Some(Fault {
            operation: "GetItem".into(),
            error: "ThrottlingException".into(),
            count: 1,
        });
        assert!(endpoint.fail_if_asked_to("PutItem").is_ok());
        assert_eq!(
            endpoint.fail_if_asked_to("GetItem").unwrap_err().exception,
            "ThrottlingException"
        );
        assert!(endpoint.fail_if_asked_to("GetItem").is_ok());
    }
}
