//! A pod on loopback: TLS under a private CA, an answer to every operation, and a record of its
//! requests.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum_server::tls_rustls::RustlsConfig;
use cloister_lambdas::{FrontDoor, PodCa, Pods, Settings};
use cloister_protocol::front_door::{FrontDoorKeys, HEADER, RequestHead};
use cloister_protocol::payload::SigningPayload;
use cloister_protocol::request::AuthenticatedRequest;
use cloister_protocol::{FrontDoorKey, Rejection};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;

pub(crate) const KEY: &str = r#"{"key_id":"7e99e372-0eba-4001-8002-35e6a1478070","address":"0xe06C2c216fC36E2d40fB0199623032CC17b3B41b"}"#;
pub(crate) const SIGNED: &str = r#"{"transaction_signed":"0x02f8","transaction_hash":"0x74b4"}"#;
pub(crate) const SIGNATURE: &str = r#"{"signature":"0x01021b"}"#;
/// The report of an enclave that is ready.
pub(crate) const HEALTH: &str = r#"{"service":"signer","version":"1.2.3","state":"ready","cmk_arn":null,"locked":false,"pcr0":"00"}"#;
/// The front door's key.
pub(crate) const POD_KEY: &str = "8f3c6e0d5b7a49128e1f0c2d3b4a59687786a5b4c3d2e1f00f1e2d3c4b5a6978";
/// The front door's clock.
pub(crate) const NOW: u64 = 1_790_000_000;

/// A CA and what it signs.
pub(crate) struct Pki(CertifiedIssuer<'static, KeyPair>);

impl Pki {
    pub(crate) fn generate() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// The TLS side of a server called `name`.
    pub(crate) fn server(&self, name: &str) -> Arc<ServerConfig> {
        self.server_speaking(name, rustls::DEFAULT_VERSIONS)
    }

    /// The same in these versions of TLS only.
    pub(crate) fn server_speaking(
        &self,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()])
            .unwrap()
            .signed_by(&key, &self.0)
            .unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
        Arc::new(config)
    }
}

/// A request as the pod saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) request_id: String,
    /// The time of the valid MAC.
    pub(crate) timestamp: u64,
    pub(crate) body: String,
}

type Override = Option<(StatusCode, String)>;

#[derive(Clone, Default)]
pub(crate) struct Memory {
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<Mutex<Override>>,
}

/// A pod and the front door before it.
pub(crate) struct World {
    pub(crate) front_door: FrontDoor,
    pub(crate) settings: Settings,
    memory: Memory,
    _directory: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(&Pki::generate(), |pki| pki.pem(), "localhost").await
    }

    /// A pod called `name` under `pki`, before it a front door that trusts `ca`.
    pub(crate) async fn with(pki: &Pki, ca: impl Fn(&Pki) -> String, name: &str) -> Self {
        let memory = Memory::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = Router::new()
            .route("/v1/generate_key", post(answer))
            .route("/v1/set_key", post(answer))
            .route("/v1/sign_transaction/{key_id}", post(sign))
            .route("/v1/health", get(health))
            .with_state(memory.clone());
        let server =
            axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(pki.server(name)))
                .unwrap();
        tokio::spawn(server.serve(app.into_make_service()));
        let (settings, directory) = settings(port, &ca(pki));
        let front_door = FrontDoor::new(Pods::new(&settings).unwrap(), clock);
        Self {
            front_door,
            settings,
            memory,
            _directory: directory,
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.memory.seen.lock().unwrap().clone()
    }

    /// Has the pod answer this to everything.
    pub(crate) fn answer_with(&self, status: u16, body: impl Into<String>) {
        *self.memory.answer.lock().unwrap() =
            Some((StatusCode::from_u16(status).unwrap(), body.into()));
    }

    pub(crate) fn refuse_with(&self, rejection: &Rejection) {
        self.answer_with(
            rejection.code.http_status(),
            serde_json::to_string(rejection).unwrap(),
        );
    }
}

pub(crate) fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

/// Settings for pods on `port` of localhost under `ca`, and the directory that holds the CA.
pub(crate) fn settings(port: u16, ca: &str) -> (Settings, TempDir) {
    let directory = TempDir::new().unwrap();
    let pod_ca_file = directory.path().join("ca.pem");
    std::fs::write(&pod_ca_file, ca).unwrap();
    let url: reqwest::Url = format!("https://localhost:{port}").parse().unwrap();
    (
        Settings {
            signer: url.clone(),
            key_generator: url,
            pod_ca: PodCa::File(pod_ca_file),
            pod_key: Arc::new(FrontDoorKey::from_hex(POD_KEY).unwrap()),
        },
        directory,
    )
}

async fn answer(
    State(memory): State<Memory>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    memory.respond(&method, &uri, &headers, body, KEY)
}

async fn health(
    State(memory): State<Memory>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    memory.respond(&method, &uri, &headers, String::new(), HEALTH)
}

async fn sign(
    State(memory): State<Memory>,
    Path(key_id): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let request = AuthenticatedRequest::parse(body.as_bytes()).unwrap();
    assert_eq!(request.key_id.to_string(), key_id);
    let answer = match SigningPayload::parse(&request.payload).unwrap() {
        SigningPayload::Transaction(_) => SIGNED,
        SigningPayload::UserOpHash(_) => SIGNATURE,
    };
    memory.respond(&method, &uri, &headers, body, answer)
}

impl Memory {
    /// Every request has to be one that a pod admits.
    fn respond(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: String,
        answer: &str,
    ) -> Response {
        let request_id = headers["x-request-id"].to_str().unwrap().to_owned();
        let values: Vec<_> = headers.get_all(HEADER).iter().collect();
        let stated = values[0].to_str().unwrap().split('.').nth(1).unwrap();
        let timestamp = stated.parse().unwrap();
        let head = RequestHead {
            request_id: request_id.as_bytes(),
            method: method.as_str(),
            target: uri.path_and_query().unwrap().as_str(),
            content_length: body.len().try_into().unwrap(),
        };
        FrontDoorKeys::new(FrontDoorKey::from_hex(POD_KEY).unwrap(), None)
            .check(
                values.iter().map(|value| value.as_bytes()),
                &head,
                timestamp,
            )
            .unwrap();
        self.seen.lock().unwrap().push(Seen {
            path: uri.path().to_owned(),
            request_id,
            timestamp,
            body,
        });
        let (status, body) = self
            .answer
            .lock()
            .unwrap()
            .clone()
            .unwrap_or_else(|| (StatusCode::OK, answer.to_owned()));
        let headers = [
            ("content-type", "application/json"),
            ("server-timing", "pod;dur=1.0, enclave;dur=0.5"),
        ];
        (status, headers, body).into_response()
    }
}
