//! The HTTPS server: one path, the operation in a header, as KMS has it.

use std::{
    fmt, fs, io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, Request, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use cloister_attestation::TrustRoot;
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    authenticate::authenticate,
    error::KmsError,
    faults::{Fault, Faults},
    files,
    keys::Keys,
    operation::{Call, Kms, known},
    principals::{Principals, PrincipalsError},
    recipient::Trust,
};

/// A call with a policy of full size fits well.
const MAX_BODY_LEN: usize = 128 * 1024;
/// How long the calls in flight may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// What time it is. A parameter, so that a test can let documents age.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What a [`LocalKms`] needs to know.
pub struct Options {
    /// A loopback address; port 0 takes any.
    pub listen: SocketAddr,
    /// Written once listening: `{"https": "127.0.0.1:port"}`.
    pub address_file: Option<PathBuf>,
    /// Directory of the keys.
    pub data: PathBuf,
    /// Server certificate chain, PEM.
    pub tls_cert: PathBuf,
    /// Its private key, PEM.
    pub tls_key: PathBuf,
    /// Root certificate of the attestation documents to believe, PEM or DER.
    pub nsm_root: PathBuf,
    /// Believe documents of QEMU's emulated NSM too, which anybody can write.
    pub accept_unsigned_documents_of_the_emulator: bool,
    /// Who may call.
    pub principals: PathBuf,
    /// Partition of the keys' ARNs.
    pub partition: String,
    /// Region of the keys' ARNs and of signatures.
    pub region: String,
    /// Account that owns the keys.
    pub account: String,
    /// `SystemTime::now`, outside tests.
    pub clock: Clock,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("listen", &self.listen)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

/// A running KMS.
#[derive(Debug)]
pub struct LocalKms {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    server: JoinHandle<io::Result<()>>,
}

impl LocalKms {
    /// Reads the files and listens. Must run within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] for a file that cannot be used or an address that cannot be bound.
    pub fn start(options: Options) -> Result<Self, StartError> {
        if !options.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(options.listen));
        }
        Principals::read(&options.principals)?;
        let tls = tls(&options.tls_cert, &options.tls_key)?;
        let trust = Trust {
            root: read_root(&options.nsm_root)?,
            unsigned: options.accept_unsigned_documents_of_the_emulator,
        };
        if trust.unsigned {
            tracing::warn!(
                "ATTESTATION DOCUMENTS WITHOUT A SIGNATURE ARE ACCEPTED: whoever may call can claim any measurement"
            );
        }
        let Options {
            partition,
            region,
            account,
            ..
        } = options;
        let arn_prefix = format!("arn:{partition}:kms:{region}:{account}:key/");
        let keys = Keys::open(options.data.clone(), arn_prefix)
            .map_err(|source| StartError::file(&options.data, source))?;
        let service = Arc::new(Service {
            region,
            principals: options.principals,
            clock: options.clock,
            faults: Faults::default(),
            kms: Kms {
                partition,
                account,
                trust,
                keys,
            },
        });

        let listener = TcpListener::bind(options.listen).map_err(StartError::Listen)?;
        listener.set_nonblocking(true).map_err(StartError::Listen)?;
        let address = listener.local_addr().map_err(StartError::Listen)?;
        let handle = Handle::new();
        let router = Router::new()
            .route("/", post(answer))
            .route("/_local/faults", post(set_fault))
            .with_state(service);
        let server = axum_server::from_tcp_rustls(listener, tls)
            .map_err(StartError::Listen)?
            .handle(handle.clone())
            .serve(router.into_make_service());
        let server = tokio::spawn(server);

        if let Some(file) = options.address_file {
            let text = json!({ "https": address.to_string() }).to_string();
            files::replace(&file, text.as_bytes())
                .map_err(|source| StartError::file(&file, source))?;
        }
        Ok(Self {
            address,
            handle,
            server,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Finishes the calls in flight and stops.
    ///
    /// # Errors
    /// The server's own, if it failed before.
    pub async fn stop(self) -> io::Result<()> {
        self.handle.graceful_shutdown(Some(GRACE));
        self.server.await.map_err(io::Error::other)?
    }
}

/// Why a [`LocalKms`] does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address could be reached from elsewhere.
    #[error("{0} is not a loopback address")]
    NotLoopback(SocketAddr),
    /// The address cannot be bound.
    #[error("cannot listen")]
    Listen(#[source] io::Error),
    /// A file or directory cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds no usable PEM.
    #[error("{} holds no usable PEM", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The server certificate and its key do not make a TLS server.
    #[error("cannot serve TLS with this certificate and key")]
    Tls(#[source] rustls::Error),
    /// The file of principals cannot be used.
    #[error(transparent)]
    Principals(#[from] PrincipalsError),
}

impl StartError {
    fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

struct Service {
    region: String,
    principals: PathBuf,
    clock: Clock,
    faults: Faults,
    kms: Kms,
}

async fn answer(State(service): State<Arc<Service>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_LEN).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let operation = operation(&parts.headers);
    let now = (service.clock)();

    let caller = authenticate(
        parts,
        body.clone(),
        &service.principals,
        &service.region,
        now.into(),
    )
    .await;
    let mut response = match (operation, caller) {
        (_, Err(error)) => {
            tracing::info!(operation, outcome = error.exception, "unauthenticated");
            error.into_response()
        }
        (None, Ok(caller)) => {
            tracing::info!(
                principal = caller.principal_arn,
                outcome = "UnknownOperationException",
                "call"
            );
            KmsError::new("UnknownOperationException", "there is no such operation").into_response()
        }
        (Some(operation), Ok(caller)) => {
            let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            let mut call = Call::new(&service.kms, &caller, now);
            let result = match service.faults.take(operation) {
                Some(fault) => Err(fault),
                None => call.perform(operation, &body),
            };
            tracing::info!(
                operation,
                principal = caller.principal_arn,
                key = call.audit.key,
                decision = call.audit.decision,
                statement = call.audit.statement,
                outcome = result
                    .as_ref()
                    .map_or_else(|error| error.exception, |_| "ok"),
                "call"
            );
            result.map_or_else(IntoResponse::into_response, |reply| {
                Json(reply).into_response()
            })
        }
    };
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-amz-json-1.1"),
    );
    response
}

async fn set_fault(State(service): State<Arc<Service>>, Json(fault): Json<Fault>) -> StatusCode {
    service.faults.set(fault);
    StatusCode::NO_CONTENT
}

fn operation(headers: &HeaderMap) -> Option<&'static str> {
    known(
        headers
            .get("x-amz-target")?
            .to_str()
            .ok()?
            .strip_prefix("TrentService.")?,
    )
}

fn tls(certificate: &Path, key: &Path) -> Result<RustlsConfig, StartError> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Pem { path, source }
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(pem(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
    // Named, not taken from the process: another library may have set another default.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(StartError::Tls)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(StartError::Tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

fn read_root(path: &Path) -> Result<TrustRoot, StartError> {
    let bytes = fs::read(path).map_err(|source| StartError::file(path, source))?;
    if !bytes.starts_with(b"-----BEGIN") {
        return Ok(TrustRoot::explicit(bytes));
    }
    let certificate = CertificateDer::from_pem_slice(&bytes).map_err(|source| StartError::Pem {
        path: path.to_owned(),
        source,
    })?;
    Ok(TrustRoot::explicit(certificate.to_vec()))
}
