//! AWS clients over a stand-in for the pod: what leaves the enclave, and what does not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kms::Client;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{Builder, Credentials};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use cloister_protocol::frame::{ConnectReply, Frame, Kind};
use cloister_runtime::{Aws, CurrentCredentials, EgressHttpClient, Settings};
use cloister_transport::{Deadlines, EgressPool, Stream, read_frame, write_frame};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::UnixStream;
use tokio_rustls::TlsAcceptor;

const KMS: &str = "kms.eu-central-1.amazonaws.com";

/// A pod that answers in the place of whoever is dialled, and what it saw.
#[derive(Clone)]
struct Pod {
    pool: EgressPool,
    tls: TlsAcceptor,
    silent: bool,
    destinations: Arc<Mutex<Vec<String>>>,
    /// `host` and `authorization` of each request.
    requests: Arc<Mutex<Vec<(String, String)>>>,
}

impl Pod {
    fn start(authority: &Authority, name: &str, silent: bool) -> Self {
        let pod = Self {
            pool: EgressPool::new(),
            tls: authority.server(name),
            silent,
            destinations: Arc::default(),
            requests: Arc::default(),
        };
        tokio::spawn(pod.clone().keep_one_idle());
        pod
    }

    async fn keep_one_idle(self) {
        loop {
            let (enclave, pod) = UnixStream::pair().unwrap();
            self.pool.offer(enclave.into());
            let mut stream = Stream::from(pod);
            let Ok(Some(connect)) = read_frame(&mut stream, Deadlines::default()).await else {
                return;
            };
            self.destinations
                .lock()
                .unwrap()
                .push(String::from_utf8(connect.body.to_vec()).unwrap());
            let reply = Frame::control(Kind::Connected, vec![ConnectReply::Connected as u8]);
            write_frame(&mut stream, &reply, Deadlines::default())
                .await
                .unwrap();
            tokio::spawn(self.clone().serve(stream));
        }
    }

    async fn serve(self, stream: Stream) {
        let Ok(stream) = self.tls.accept(stream).await else {
            return;
        };
        let service = service_fn(|request: Request<Incoming>| {
            let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
            self.requests
                .lock()
                .unwrap()
                .push((header("host"), header("authorization")));
            async {
                if self.silent {
                    std::future::pending::<()>().await;
                }
                let body = r#"{"KeyMetadata":{"KeyId":"k","Arn":"arn"}}"#.to_owned();
                Ok::<_, Infallible>(Response::new(body))
            }
        });
        let _ = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn server(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
        Arc::new(config).into()
    }

    fn settings(&self) -> Settings {
        let role = |name| format!("arn:aws:iam::123456789012:role/{name}");
        let settings = serde_json::json!({
            "partition": "aws",
            "account": "123456789012",
            "region": "eu-central-1",
            "signer_role": role("signer"),
            "generator_role": role("generator"),
            "retirement_role": role("retirement"),
            "administrator_role": role("administrator"),
            "table_arn": "arn:aws:dynamodb:eu-central-1:123456789012:table/keys",
            "tls_roots": [self.certificate],
            "accept_open_policy": true,
        });
        Settings::parse(settings.to_string().as_bytes()).unwrap()
    }
}

fn credentials(id: &str) -> Credentials {
    Credentials::new(id, "secret", None, None, "test")
}

/// A KMS client of an enclave that trusts `authority`, whose way out is `pod`.
fn client(authority: &Authority, pod: &Pod, current: &CurrentCredentials) -> Client {
    let settings = Arc::new(authority.settings());
    let http = EgressHttpClient::new(pod.pool.clone(), &settings.tls_roots).unwrap();
    Client::new(&Aws::new(settings, SharedHttpClient::new(http)).config("kms", current.clone()))
}

fn once() -> Builder {
    Builder::default().retry_config(aws_sdk_kms::config::retry::RetryConfig::disabled())
}

#[tokio::test]
async fn requests_go_to_the_measured_host_over_one_kept_connection() {
    let authority = Authority::new();
    let pod = Pod::start(&authority, KMS, false);
    let current = CurrentCredentials::default();
    current.replace(credentials("AKIDFIRST"));
    let client = client(&authority, &pod, &current);
    for _ in 0..3 {
        client.describe_key().key_id("k").send().await.unwrap();
    }
    assert_eq!(*pod.destinations.lock().unwrap(), [format!("{KMS}:443")]);
    let requests = pod.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|(host, signature)| {
        host == KMS
            && signature.contains("Credential=AKIDFIRST/")
            && signature.contains("/eu-central-1/kms/")
    }));
}

#[tokio::test]
async fn replaced_credentials_are_in_use_at_once() {
    let authority = Authority::new();
    let pod = Pod::start(&authority, KMS, false);
    let current = CurrentCredentials::default();
    let client = client(&authority, &pod, &current);
    client.describe_key().key_id("k").send().await.unwrap_err();
    for id in ["AKIDFIRST", "AKIDSECOND"] {
        current.replace(credentials(id));
        client.describe_key().key_id("k").send().await.unwrap();
        assert!(
            pod.requests
                .lock()
                .unwrap()
                .last()
                .unwrap()
                .1
                .contains(&format!("Credential={id}/"))
        );
    }
}

#[tokio::test]
async fn a_server_of_another_name_gets_no_request() {
    let authority = Authority::new();
    let pod = Pod::start(&authority, "kms.us-east-1.amazonaws.com", false);
    let current = CurrentCredentials::default();
    current.replace(credentials("AKID"));
    let refused = client(&authority, &pod, &current)
        .describe_key()
        .key_id("k")
        .customize()
        .config_override(once());
    refused.send().await.unwrap_err();
    assert_eq!(pod.requests.lock().unwrap().len(), 0);
    assert_eq!(pod.destinations.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_under_another_root_gets_no_request() {
    let pod = Pod::start(&Authority::new(), KMS, false);
    let current = CurrentCredentials::default();
    current.replace(credentials("AKID"));
    let refused = client(&Authority::new(), &pod, &current)
        .describe_key()
        .key_id("k")
        .customize()
        .config_override(once());
    refused.send().await.unwrap_err();
    assert_eq!(pod.requests.lock().unwrap().len(), 0);
    assert_eq!(pod.destinations.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let authority = Authority::new();
    let pod = Pod::start(&authority, KMS, true);
    let current = CurrentCredentials::default();
    current.replace(credentials("AKID"));
    let short = TimeoutConfig::builder()
        .read_timeout(Duration::from_millis(100))
        .build();
    let given_up = client(&authority, &pod, &current)
        .describe_key()
        .key_id("k")
        .customize()
        .config_override(once().timeout_config(short))
        .send()
        .await
        .unwrap_err();
    assert!(
        matches!(given_up, aws_sdk_kms::error::SdkError::DispatchFailure(failure) if failure.is_timeout())
    );
    assert_eq!(pod.requests.lock().unwrap().len(), 1);
}
