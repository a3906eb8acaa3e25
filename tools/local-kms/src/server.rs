//! The HTTPS server: one path, the operation in a header, as KMS has it.

use std::{
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, Request, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use cloister_attestation::TrustRoot;
use cloister_stand_in::{
    StandInError,
    faults::{self, Faults},
    https::{self, Server},
    principals::Principals,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::{
    authenticate::authenticate,
    error::KmsError,
    keys::Keys,
    operation::{Call, Kms, known},
    recipient::Trust,
};

/// Returns the time. A parameter, so that a test can let documents age.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Settings of a [`LocalKms`].
pub struct Options {
    /// Listener.
    pub https: https::Options,
    /// Directory of the keys.
    pub data: PathBuf,
    /// Root certificate that attestation documents must chain to, PEM or DER.
    pub nsm_root: PathBuf,
    /// Also accept documents of QEMU's emulated NSM, which anybody can write.
    pub accept_unsigned_documents_of_the_emulator: bool,
    /// File of principals that may call.
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
            .field("https", &self.https)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

/// A running KMS.
#[derive(Debug)]
pub struct LocalKms(Server);

impl LocalKms {
    /// Reads the files and listens. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// If a file cannot be used or the address cannot be bound.
    pub fn start(options: Options) -> Result<Self, StandInError> {
        // Read again for every call; a mistake in it should show at the start.
        Principals::read(&options.principals)?;
        let trust = Trust {
            root: read_root(&options.nsm_root)?,
            unsigned: options.accept_unsigned_documents_of_the_emulator,
        };
        if trust.unsigned {
            tracing::warn!(
                "attestation documents without a signature are accepted: callers can claim any measurement"
            );
        }
        let Options {
            partition,
            region,
            account,
            data,
            ..
        } = options;
        let arn_prefix = format!("arn:{partition}:kms:{region}:{account}:key/");
        let keys = Keys::open(data.clone(), arn_prefix)
            .map_err(|source| StandInError::File { path: data, source })?;
        let faults = Faults::new(&EXCEPTIONS);
        let injected = faults.router();
        let service = Arc::new(Service {
            region,
            principals: options.principals,
            clock: options.clock,
            faults,
            kms: Kms {
                partition,
                account,
                trust,
                keys,
            },
        });
        let router = Router::new()
            .route("/", post(answer))
            .with_state(service)
            .merge(injected);
        Server::start(&options.https, router).map(Self)
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Finishes the calls in flight and stops.
    ///
    /// # Errors
    /// If the server failed before.
    pub async fn stop(self) -> Result<(), StandInError> {
        self.0.stop().await
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
            KmsError::new("UnknownOperationException", "unknown operation").into_response()
        }
        (Some(operation), Ok(caller)) => {
            let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            let mut call = Call::new(&service.kms, &caller, now);
            let result = match service.faults.take(operation) {
                Some(exception) => Err(KmsError::new(exception, faults::MESSAGE)),
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

fn operation(headers: &HeaderMap) -> Option<&'static str> {
    known(
        headers
            .get("x-amz-target")?
            .to_str()
            .ok()?
            .strip_prefix("TrentService.")?,
    )
}

fn read_root(path: &Path) -> Result<TrustRoot, StandInError> {
    let bytes = fs::read(path).map_err(|source| StandInError::File {
        path: path.to_owned(),
        source,
    })?;
    if !bytes.starts_with(b"-----BEGIN") {
        return Ok(TrustRoot::explicit(bytes));
    }
    let certificate =
        CertificateDer::from_pem_slice(&bytes).map_err(|source| StandInError::Pem {
            path: path.to_owned(),
            source,
        })?;
    Ok(TrustRoot::explicit(certificate.to_vec()))
}

/// A call with a policy of the largest size fits.
const MAX_BODY_LEN: usize = 128 * 1024;
/// Exceptions that can be injected.
const EXCEPTIONS: [&str; 10] = [
    "AccessDeniedException",
    "DependencyTimeoutException",
    "DisabledException",
    "IncorrectKeyException",
    "InvalidCiphertextException",
    "KMSInternalException",
    "KMSInvalidStateException",
    "KeyUnavailableException",
    "NotFoundException",
    "ThrottlingException",
];
