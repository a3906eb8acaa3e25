//! A pod with its own certificate, and a caller that trusts its CA.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use cloister_pods::{
    Config, EnclaveConfig, EnclaveDriver, FrontDoorKeySource, MetricsConfig, PodError, PodService,
};
use cloister_protocol::FrontDoorKey;
use cloister_protocol::front_door::{HEADER, RequestHead};
use cloister_transport::Session;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;

use crate::enclave::address;

/// The name in the certificate of every pod here.
pub(crate) const NAME: &str = "pod.cloister.test";
/// The front door's key.
pub(crate) const KEY: &str = "8f3c6e0d5b7a49128e1f0c2d3b4a59687786a5b4c3d2e1f00f1e2d3c4b5a6978";

pub(crate) struct Pod {
    pub(crate) running: JoinHandle<Result<(), PodError>>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) addresses: Addresses,
    pub(crate) client: Client,
    /// The session with its enclave.
    pub(crate) session: Session,
}

pub(crate) struct Addresses {
    pub(crate) https: SocketAddr,
    pub(crate) health: SocketAddr,
}

impl Pod {
    pub(crate) async fn start(directory: &TempDir, service: impl PodService) -> Self {
        Self::start_with(directory, service, static_credentials()).await
    }

    pub(crate) async fn start_with(
        directory: &TempDir,
        service: impl PodService,
        credentials: SharedCredentialsProvider,
    ) -> Self {
        let config = config(directory.path());
        let shutdown = CancellationToken::new();
        let keys = keys(&config);
        let pod = cloister_pods::Pod::new(config, service, credentials, keys).unwrap();
        let session = pod.session();
        let running = tokio::spawn(pod.run(shutdown.clone()));
        Self::started(directory, running, shutdown, session).await
    }

    /// A pod with another configuration.
    pub(crate) async fn start_configured(
        directory: &TempDir,
        service: impl PodService,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = config(directory.path());
        change(&mut config);
        let shutdown = CancellationToken::new();
        let keys = keys(&config);
        let pod = cloister_pods::Pod::new(config, service, static_credentials(), keys).unwrap();
        let session = pod.session();
        let running = tokio::spawn(pod.run(shutdown.clone()));
        Self::started(directory, running, shutdown, session).await
    }

    /// A pod that runs its enclave itself.
    pub(crate) async fn start_managed(
        directory: &TempDir,
        service: impl PodService,
        managed: EnclaveConfig,
        driver: impl EnclaveDriver,
    ) -> Self {
        let config = Config {
            enclave: None,
            managed,
            ..config(directory.path())
        };
        let shutdown = CancellationToken::new();
        let keys = keys(&config);
        let credentials = static_credentials();
        let pod =
            cloister_pods::Pod::with_driver(config, driver, service, credentials, keys).unwrap();
        let session = pod.session();
        let running = tokio::spawn(pod.run(shutdown.clone()));
        Self::started(directory, running, shutdown, session).await
    }

    async fn started(
        directory: &TempDir,
        running: JoinHandle<Result<(), PodError>>,
        shutdown: CancellationToken,
        session: Session,
    ) -> Self {
        let addresses = addresses(&directory.path().join("addresses.json")).await;
        let client = caller(directory.path(), &addresses).build().unwrap();
        Self {
            running,
            shutdown,
            addresses,
            client,
            session,
        }
    }

    /// A request of the front door.
    pub(crate) fn post(&self, path: &str, body: &str) -> RequestBuilder {
        signed(self.unsigned(path, body))
    }

    /// A request of anybody else.
    pub(crate) fn unsigned(&self, path: &str, body: &str) -> RequestBuilder {
        self.client
            .post(format!("https://{NAME}{path}"))
            .body(body.to_owned())
    }

    /// A request of the front door for the service's health.
    pub(crate) fn service_health(&self) -> RequestBuilder {
        signed(self.client.get(format!("https://{NAME}/v1/health")))
    }

    pub(crate) async fn health(&self, path: &str) -> (u16, String) {
        let response = self
            .client
            .get(format!("http://{}{path}", self.addresses.health))
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Waits until `/readyz` says so; returns what it says then.
    pub(crate) async fn becomes(&self, ready: bool) -> String {
        let status = if ready { 200 } else { 503 };
        eventually(async || {
            let (said, body) = self.health("/readyz").await;
            (said == status).then_some(body)
        })
        .await
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// The request as the front door sends it: nothing that the MAC covers may be changed afterwards.
pub(crate) fn signed(request: RequestBuilder) -> RequestBuilder {
    signed_with(request, KEY, 0)
}

/// The request with a MAC of this key, by a clock that is `ahead` by so many seconds.
pub(crate) fn signed_with(request: RequestBuilder, key: &str, ahead: i64) -> RequestBuilder {
    let (client, request) = request.build_split();
    let mut request = request.unwrap();
    let body = request
        .body()
        .map_or(&[][..], |body| body.as_bytes().unwrap());
    let request_id = request.headers().get("x-request-id");
    let head = RequestHead {
        request_id: request_id.map_or(&[][..], |value| value.as_bytes()),
        method: request.method().as_str(),
        target: &target(request.url()),
        content_length: body.len().try_into().unwrap(),
    };
    let value = head.sign(
        &FrontDoorKey::from_hex(key).unwrap(),
        now().checked_add_signed(ahead).unwrap(),
    );
    request.headers_mut().insert(HEADER, value.parse().unwrap());
    RequestBuilder::from_parts(client, request)
}

fn target(url: &reqwest::Url) -> String {
    let query = url.query().map(|query| format!("?{query}"));
    format!("{}{}", url.path(), query.unwrap_or_default())
}

pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// The status, code and body of a refusal.
pub(crate) async fn refusal(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    (status, body["code"].as_str().unwrap().to_owned())
}

pub(crate) fn keys(config: &Config) -> FrontDoorKeySource {
    FrontDoorKeySource::File(config.front_door_key_file.clone().unwrap())
}

pub(crate) fn config(directory: &Path) -> Config {
    let (tls_cert, tls_key) = certificate(directory);
    let front_door_key = directory.join("front-door-key");
    std::fs::write(&front_door_key, KEY).unwrap();
    let anywhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Config {
        listen: anywhere,
        health_listen: anywhere,
        tls_cert,
        tls_key,
        front_door_key_file: Some(front_door_key),
        front_door_secret: None,
        front_door_secret_seconds: 1,
        enclave: Some(address(directory)),
        enclave_session_file: Some(session_file(directory)),
        managed: EnclaveConfig::default(),
        metrics: MetricsConfig::default(),
        cmk_arn: "arn:aws:kms:eu-central-1:111122223333:key/1234abcd"
            .parse()
            .unwrap(),
        egress: "kms.eu-central-1.amazonaws.com:443=127.0.0.1:9"
            .parse()
            .unwrap(),
        region: "eu-central-1".parse().unwrap(),
        aws_ca_file: None,
        address_file: Some(directory.join("addresses.json")),
        request_memory_mib: Some(16),
        max_connections: 1024,
        log: LevelFilter::OFF,
    }
}

/// The file of the session with an external enclave: the same for all pods of a test.
fn session_file(directory: &Path) -> PathBuf {
    let file = directory.join("session");
    std::fs::write(&file, "5e".repeat(32)).unwrap();
    file
}

/// Writes ca.pem, cert.pem and key.pem; the certificate is for [`NAME`] and for the fake of AWS.
fn certificate(directory: &Path) -> (PathBuf, PathBuf) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new([NAME.to_owned(), "localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let paths = ["ca.pem", "cert.pem", "key.pem"].map(|name| directory.join(name));
    std::fs::write(&paths[0], authority.pem()).unwrap();
    std::fs::write(&paths[1], server.pem()).unwrap();
    std::fs::write(&paths[2], key.serialize_pem()).unwrap();
    let [_, cert, key] = paths;
    (cert, key)
}

/// A caller that trusts the CA in `directory` and no other, and finds the pod under any name.
pub(crate) fn caller(directory: &Path, addresses: &Addresses) -> ClientBuilder {
    // An error means that another test was faster.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ca = Certificate::from_pem(&std::fs::read(directory.join("ca.pem")).unwrap()).unwrap();
    Client::builder()
        .tls_certs_only([ca])
        .resolve(NAME, addresses.https)
        .no_proxy()
}

pub(crate) async fn addresses(file: &Path) -> Addresses {
    let text = eventually(async || std::fs::read_to_string(file).ok()).await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let address = |name: &str| json[name].as_str().unwrap().parse().unwrap();
    Addresses {
        https: address("https"),
        health: address("health"),
    }
}

pub(crate) fn static_credentials() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new("AKIDFIRST", "secret", None, None, "test"))
}

/// Polls until there is something; a test that would hang fails instead.
pub(crate) async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "it never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
