//! The one HTTPS client to the pods: kept alive, TLS 1.3, names verified under the private CA and
//! no other root.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cloister_protocol::limits::{IDLE_DEADLINE, MAX_FRAME_LEN};
use cloister_protocol::{Code, Rejection};
use http::{HeaderValue, StatusCode};
use reqwest::Url;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::command::Command;
use crate::settings::{PodCa, Settings};

/// The pods of both services.
#[derive(Clone, Debug)]
pub struct Pods {
    http: reqwest::Client,
    signer: Url,
    key_generator: Url,
}

/// What a pod answered.
#[derive(Debug)]
pub struct PodAnswer {
    /// The enclave's JSON, or why there is none.
    pub outcome: Result<Bytes, Rejection>,
    /// The pod's `Server-Timing` header.
    pub timing: Option<HeaderValue>,
}

impl Pods {
    /// Reads the CA and prepares the client; connects to nothing yet.
    ///
    /// # Errors
    /// [`PodsError`] when the CA cannot be read or is none.
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
            // Before a pod closes it: a request on a connection that is just being closed fails.
            .pool_idle_timeout(IDLE_DEADLINE / 2)
            .tcp_nodelay(true)
            .build()
            .map_err(PodsError::Client)?;
        Ok(Self {
            http,
            signer: settings.signer.clone(),
            key_generator: settings.key_generator.clone(),
        })
    }

    /// Asks the pods of the service that carries out `command`; `None` when there is nothing to
    /// ask.
    ///
    /// A key is created at most once: a request of the key generator is never sent twice. A
    /// signature request is repeated once when the connection died before an answer began, because
    /// its repetition yields the same signature.
    pub async fn ask(&self, command: &Command<'_>, request_id: &str) -> Option<PodAnswer> {
        let answer = match command {
            Command::Version => return None,
            Command::GenerateKey(body) => {
                self.send(
                    &self.key_generator,
                    "v1/generate_key",
                    Bytes::copy_from_slice(body),
                    request_id,
                )
                .await
            }
            Command::SetKey(body) => {
                self.send(
                    &self.key_generator,
                    "v1/set_key",
                    Bytes::copy_from_slice(body),
                    request_id,
                )
                .await
            }
            Command::SignTransaction(request, _) => {
                let path = format!("v1/sign_transaction/{}", request.key_id);
                let body = Bytes::from(request.to_json());
                match self
                    .send(&self.signer, &path, body.clone(), request_id)
                    .await
                {
                    Err(SendError::Dead(_)) => {
                        self.send(&self.signer, &path, body, request_id).await
                    }
                    answer => answer,
                }
            }
        };
        Some(answer.unwrap_or_else(|error| {
            let error_chain = crate::front_door::chain(&error);
            tracing::warn!(request_id, error = %error_chain, "a pod gave no answer");
            PodAnswer {
                outcome: Err(error.into()),
                timing: None,
            }
        }))
    }

    async fn send(
        &self,
        origin: &Url,
        path: &str,
        body: Bytes,
        request_id: &str,
    ) -> Result<PodAnswer, SendError> {
        let url = origin
            .join(path)
            .map_err(|_| SendError::NotUnderstood("its address"))?;
        let mut response = self
            .http
            .post(url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header("x-request-id", request_id)
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
        let timing = response.headers().get("server-timing").cloned();
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(SendError::Cut)? {
            if body.len() + chunk.len() > MAX_FRAME_LEN {
                return Err(SendError::NotUnderstood("a body longer than a frame"));
            }
            body.extend_from_slice(&chunk);
        }
        let outcome = if response.status() == StatusCode::OK {
            Ok(body.freeze())
        } else {
            let rejection: Rejection = serde_json::from_slice(&body)
                .map_err(|_| SendError::NotUnderstood("an error body of another kind"))?;
            if rejection.code.http_status() != response.status().as_u16() {
                return Err(SendError::NotUnderstood(
                    "a status that is not the one of its code",
                ));
            }
            Err(rejection)
        };
        Ok(PodAnswer { outcome, timing })
    }
}

fn certificates(ca: &PodCa) -> Result<Vec<CertificateDer<'static>>, rustls_pki_types::pem::Error> {
    match ca {
        PodCa::File(path) => CertificateDer::pem_file_iter(path)?.collect(),
        PodCa::Pem(pem) => CertificateDer::pem_slice_iter(pem).collect(),
    }
}

/// Why the client could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodsError {
    /// The CA.
    #[error("cannot read the certificates of CLOISTER_POD_CA or CLOISTER_POD_CA_FILE")]
    Ca(#[source] rustls_pki_types::pem::Error),
    /// Nothing to trust.
    #[error("CLOISTER_POD_CA or CLOISTER_POD_CA_FILE holds no certificate")]
    NoCertificate,
    /// The TLS library refused.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The HTTP library refused.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Why there is no answer. Its sources are for the log; the caller sees the [`Rejection`].
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("no connection, or it died before an answer")]
    Dead(#[source] reqwest::Error),
    #[error("no connection in time")]
    Late(#[source] reqwest::Error),
    #[error("the answer was cut off")]
    Cut(#[source] reqwest::Error),
    #[error("the answer was not understood: {0}")]
    NotUnderstood(&'static str),
}

impl From<SendError> for Rejection {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Dead(_) | SendError::Late(_) => Self::new(
                Code::EnclaveUnavailable,
                "the enclave cannot be reached at the moment",
            ),
            SendError::Cut(_) | SendError::NotUnderstood(_) => not_understood(),
        }
    }
}

/// A pod said something that is not in the protocol.
pub(crate) fn not_understood() -> Rejection {
    Rejection::new(
        Code::ProtocolViolation,
        "the answer of the enclave's pod was not understood",
    )
}

/// Time for a new connection, TLS included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
