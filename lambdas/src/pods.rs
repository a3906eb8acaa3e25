//! The HTTPS client to the pods: kept alive, TLS 1.3, trusting the private CA only.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cloister_contract::{ErrorChain, events};
use cloister_protocol::front_door::{HEADER, REFUSAL_STATUS, REQUEST_ID_HEADER, RequestHead};
use cloister_protocol::limits::{IDLE_DEADLINE, MAX_FRAME_LEN};
use cloister_protocol::message::HealthReport;
use cloister_protocol::{FrontDoorKey, Rejection};
use http::{Method, StatusCode};
use reqwest::Url;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::command::Command;
use crate::error::{PodsError, SendError, invalid_response};
use crate::health::Health;
use crate::settings::{PodCa, Settings};

/// The pods of both services.
#[derive(Clone, Debug)]
pub struct Pods {
    http: reqwest::Client,
    signer: Url,
    key_generator: Url,
    key: Arc<FrontDoorKey>,
}

impl Pods {
    /// Reads the CA and sets up the client without connecting.
    ///
    /// # Errors
    /// [`PodsError`] if the CA cannot be read or contains no certificate.
    pub fn new(settings: &Settings) -> Result<Self, PodsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&settings.pod_ca).map_err(PodsError::Ca)? {
            roots.add(certificate).map_err(PodsError::Tls)?;
        }
        if roots.is_empty() {
            return Err(PodsError::NoCertificate);
        }
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(PodsError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // Retries are decided here, by operation.
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_DEADLINE)
            // Sooner than a pod: a request on a connection that the pod is closing fails.
            .pool_idle_timeout(IDLE_DEADLINE / 2)
            .tcp_nodelay(true)
            .build()
            .map_err(PodsError::Client)?;
        Ok(Self {
            http,
            signer: settings.signer.clone(),
            key_generator: settings.key_generator.clone(),
            key: settings.pod_key.clone(),
        })
    }

    /// Sends `command` to the pods of its service. Returns the enclave's JSON.
    ///
    /// A request to the key generator is never sent twice, so that it creates one key at most. A
    /// signature request is repeated once if the connection ended before a response began: the
    /// repetition yields the same signature.
    ///
    /// # Errors
    /// The enclave's rejection, or one of this hop.
    pub(crate) async fn ask(
        &self,
        command: &Command<'_>,
        stamp: Stamp<'_>,
    ) -> Result<Bytes, Rejection> {
        let outcome = match command {
            Command::GenerateKey(body) => {
                let body = Bytes::copy_from_slice(body);
                self.post(&self.key_generator, "v1/generate_key", body, stamp)
                    .await
            }
            Command::SetKey(body) => {
                let body = Bytes::copy_from_slice(body);
                self.post(&self.key_generator, "v1/set_key", body, stamp)
                    .await
            }
            Command::SignTransaction(request, _) => {
                let path = format!("v1/sign_transaction/{}", request.key_id);
                let body = Bytes::from(request.to_json());
                match self.post(&self.signer, &path, body.clone(), stamp).await {
                    Err(SendError::Dead(_)) => self.post(&self.signer, &path, body, stamp).await,
                    outcome => outcome,
                }
            }
        };
        outcome.unwrap_or_else(|error| Err(unreachable(error, stamp.request_id)))
    }

    /// Asks a pod of each service for its health, at the same time. Like a signature request, each
    /// is repeated once if the connection ended before a response began.
    pub(crate) async fn health(&self, stamp: Stamp<'_>) -> Health {
        let (signer, key_generator) = tokio::join!(
            self.health_of(&self.signer, stamp),
            self.health_of(&self.key_generator, stamp)
        );
        Health::new(signer, key_generator)
    }

    async fn health_of(&self, origin: &Url, stamp: Stamp<'_>) -> Result<HealthReport, Rejection> {
        let get = || self.send(Method::GET, origin, "v1/health", Bytes::new(), stamp);
        let report = match get().await {
            Err(SendError::Dead(_)) => get().await,
            outcome => outcome,
        };
        let report = report.unwrap_or_else(|error| Err(unreachable(error, stamp.request_id)))?;
        serde_json::from_slice(&report).map_err(|_| invalid_response())
    }

    async fn post(
        &self,
        origin: &Url,
        path: &str,
        body: Bytes,
        stamp: Stamp<'_>,
    ) -> Result<Result<Bytes, Rejection>, SendError> {
        self.send(Method::POST, origin, path, body, stamp).await
    }

    async fn send(
        &self,
        method: Method,
        origin: &Url,
        path: &str,
        body: Bytes,
        stamp: Stamp<'_>,
    ) -> Result<Result<Bytes, Rejection>, SendError> {
        let url = origin
            .join(path)
            .map_err(|_| SendError::Invalid("its address"))?;
        let mac = RequestHead {
            request_id: stamp.request_id.as_bytes(),
            method: method.as_str(),
            // No path of a pod has a query.
            target: url.path(),
            content_length: u64::try_from(body.len()).unwrap_or(u64::MAX),
        }
        .sign(&self.key, stamp.timestamp);
        let mut response = self
            .http
            .request(method, url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(REQUEST_ID_HEADER, stamp.request_id)
            .header(HEADER, mac)
            .body(body)
            .send()
            .await
            .map_err(|error| {
                if error.is_timeout() {
                    SendError::Late(error)
                } else {
                    SendError::Dead(error)
                }
            })?;
        if response.status().as_u16() == REFUSAL_STATUS {
            return Err(SendError::NotAuthenticated);
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(SendError::Cut)? {
            if body.len() + chunk.len() > MAX_FRAME_LEN {
                return Err(SendError::Invalid("a body longer than a frame"));
            }
            body.extend_from_slice(&chunk);
        }
        if response.status() == StatusCode::OK {
            return Ok(Ok(body.freeze()));
        }
        let rejection: Rejection = serde_json::from_slice(&body)
            .map_err(|_| SendError::Invalid("an unknown error body"))?;
        if rejection.code.http_status() != response.status().as_u16() {
            return Err(SendError::Invalid("a status that its code does not have"));
        }
        Ok(Err(rejection))
    }
}

/// The id and the time of a request to a pod, which its MAC covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp<'a> {
    pub(crate) request_id: &'a str,
    /// Seconds since the Unix epoch.
    pub(crate) timestamp: u64,
}

/// Logs the cause; the caller gets only the code.
fn unreachable(error: SendError, request_id: &str) -> Rejection {
    tracing::warn!(
        event = events::POD_UNREACHABLE,
        request_id,
        error = %ErrorChain(&error),
        "no answer from a pod"
    );
    error.into()
}

fn certificates(ca: &PodCa) -> Result<Vec<CertificateDer<'static>>, rustls_pki_types::pem::Error> {
    match ca {
        PodCa::File(path) => CertificateDer::pem_file_iter(path)?.collect(),
        PodCa::Pem(pem) => CertificateDer::pem_slice_iter(pem).collect(),
    }
}

/// Time for a new connection, TLS included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
