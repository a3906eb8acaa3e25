//! HTTPS from inside the enclave: TLS ends here, the pod forwards bytes.

mod connect;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use cloister_transport::EgressPool;
use http_body_util::Limited;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use self::connect::Connect;

/// The HTTP client of the AWS SDK inside an enclave. Its only way out is the pod's egress
/// connections, and it trusts only the roots it is given. Connections are kept alive and reused.
pub struct EgressHttpClient {
    pool: EgressPool,
    tls: TlsConnector,
    /// One client, with its own open connections, per connect timeout. All AWS clients of an
    /// enclave use the same.
    clients: Mutex<BTreeMap<Option<Duration>, Client<Connect, SdkBody>>>,
}

impl EgressHttpClient {
    /// A client whose streams are dialled by the pod behind `pool`.
    ///
    /// # Errors
    /// If a root is not a certificate.
    pub fn new(pool: EgressPool, roots: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        let mut trusted = RootCertStore::empty();
        for root in roots {
            trusted.add(root.clone())?;
        }
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
        .with_root_certificates(trusted)
        .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            pool,
            tls: Arc::new(tls).into(),
            clients: Mutex::default(),
        })
    }
}

impl HttpClient for EgressHttpClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let connect_timeout = settings.connect_timeout();
        // A panic elsewhere leaves the map valid.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let client = clients.entry(connect_timeout).or_insert_with(|| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
                .build(Connect::new(
                    self.pool.clone(),
                    self.tls.clone(),
                    connect_timeout,
                ))
        });
        SharedHttpConnector::new(Connector {
            client: client.clone(),
            read_timeout: settings.read_timeout(),
        })
    }
}

impl fmt::Debug for EgressHttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EgressHttpClient").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Connector {
    client: Client<Connect, SdkBody>,
    read_timeout: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (client, read_timeout) = (self.client.clone(), self.read_timeout);
        HttpConnectorFuture::new(async move {
            let request = request
                .try_into_http1x()
                .map_err(|error| ConnectorError::user(error.into()))?;
            let response = client.request(request);
            let response = match read_timeout {
                None => response.await,
                Some(limit) => timeout(limit, response)
                    .await
                    .map_err(|elapsed| ConnectorError::timeout(elapsed.into()))?,
            };
            let response = response.map_err(classify)?;
            // Replies have a few kilobytes; this only bounds memory.
            let response =
                response.map(|body| SdkBody::from_body_1_x(Limited::new(body, MAX_REPLY_LEN)));
            HttpResponse::try_from(response)
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// Tells the SDK which failures are transient: those of the connection, not those of the request.
fn classify(error: hyper_util::client::legacy::Error) -> ConnectorError {
    if source::<std::io::Error>(&error).is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut)
    {
        return ConnectorError::timeout(error.into());
    }
    match source::<hyper::Error>(&error) {
        Some(hyper) if hyper.is_user() => ConnectorError::user(error.into()),
        _ => ConnectorError::io(error.into()),
    }
}

/// The first error of this type in the chain.
fn source<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An unused connection is closed after this time: before the peer does it in the middle of a
/// request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Unused connections kept per host.
const MAX_IDLE_PER_HOST: usize = 32;
/// Longest reply that is read, in bytes. A DynamoDB item has at most 400 KiB.
const MAX_REPLY_LEN: usize = 1024 * 1024;
