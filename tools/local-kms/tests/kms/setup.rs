//! A KMS on its own port, its clients, its images, and a recipient that opens KMS's messages.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey},
    encoding::{AsDer, PublicKeyX509Der},
    rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
};
use aws_sdk_kms::{
    Client,
    config::{BehaviorVersion, Config, Credentials, Region, retry::RetryConfig},
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
    types::{KeyEncryptionMechanism, RecipientInfo},
};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use cloister_local_kms::{LocalKms, Options};
use cloister_nsm::{Claims, Nsm};
use cloister_nsm_software::{Pki, SoftwareNsm};
use cloister_stand_in::https;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const REGION: &str = "eu-central-1";

/// The files a KMS is started with.
pub(crate) struct Files {
    pub(crate) directory: TempDir,
    pub(crate) pki: Pki,
    ca_pem: String,
}

impl Files {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut ca = CertificateParams::new([]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
            .unwrap()
            .signed_by(&key, &ca)
            .unwrap();
        let pki = Pki::generate().unwrap();

        let write =
            |name: &str, contents: &[u8]| fs::write(directory.path().join(name), contents).unwrap();
        write("cert.pem", certificate.pem().as_bytes());
        write("key.pem", key.serialize_pem().as_bytes());
        write("root.der", pki.root_der());
        let files = Self {
            ca_pem: ca.pem(),
            directory,
            pki,
        };
        files.write_principals(&[
            "signer",
            "key-generator",
            "retirement",
            "administrator",
            "front-door",
        ]);
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Principals of account 111122223333 by role name; a name `stranger` belongs to another
    /// account.
    pub(crate) fn write_principals(&self, names: &[&str]) {
        let principal = |name: &&str| {
            let (access_key_id, secret_access_key, session_token) = credentials(name);
            json!({
                "access_key_id": access_key_id,
                "secret_access_key": secret_access_key,
                "session_token": session_token,
                "principal_arn": role(name),
            })
        };
        let principals: Vec<_> = names.iter().map(principal).collect();
        fs::write(
            self.path("principals.json"),
            json!({ "principals": principals }).to_string(),
        )
        .unwrap();
    }

    pub(crate) fn client(&self, address: SocketAddr, name: &str) -> Client {
        let (access_key_id, secret_access_key, session_token) = credentials(name);
        self.client_with(
            address,
            Credentials::new(
                access_key_id,
                secret_access_key,
                Some(session_token),
                None,
                "test",
            ),
        )
    }

    pub(crate) fn client_with(&self, address: SocketAddr, credentials: Credentials) -> Client {
        let roots = TrustStore::empty()
            .with_native_roots(false)
            .with_pem_certificate(self.ca_pem.as_bytes());
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(
                TlsContext::builder()
                    .with_trust_store(roots)
                    .build()
                    .unwrap(),
            )
            .build_https();
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(credentials)
            .endpoint_url(format!("https://{address}"))
            .retry_config(RetryConfig::disabled())
            .http_client(http);
        Client::from_conf(config.build())
    }

    /// Sends one request as it is and returns status and JSON body.
    pub(crate) async fn send(
        &self,
        address: SocketAddr,
        path: &'static str,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    ) -> (u16, Value) {
        let ca = CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap();
        let exchange = move || {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(ca).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = ServerName::from(address.ip());
            let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
            let mut stream =
                rustls::StreamOwned::new(connection, TcpStream::connect(address).unwrap());
            let mut head = format!(
                "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n",
                body.len()
            );
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply).unwrap();
            let reply = String::from_utf8(reply).unwrap();
            let (head, body) = reply.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            (status, serde_json::from_str(body).unwrap_or(Value::Null))
        };
        tokio::task::spawn_blocking(exchange).await.unwrap()
    }
}

/// A KMS within this process, whose clock a test moves.
pub(crate) struct Harness {
    pub(crate) files: Files,
    pub(crate) kms: LocalKms,
    seconds_ahead: Arc<AtomicU64>,
}

impl Harness {
    pub(crate) fn start() -> Self {
        Self::start_believing_unsigned(false)
    }

    pub(crate) fn start_believing_unsigned(
        accept_unsigned_documents_of_the_emulator: bool,
    ) -> Self {
        let files = Files::new();
        let seconds_ahead = Arc::new(AtomicU64::new(0));
        let ahead = Arc::clone(&seconds_ahead);
        let clock = Arc::new(move || {
            SystemTime::now() + Duration::from_secs(ahead.load(Ordering::Relaxed))
        });
        let kms = LocalKms::start(Options {
            https: https::Options {
                listen: "127.0.0.1:0".parse().unwrap(),
                address_file: None,
                tls_cert: files.path("cert.pem"),
                tls_key: files.path("key.pem"),
            },
            data: files.path("data"),
            nsm_root: files.path("root.der"),
            accept_unsigned_documents_of_the_emulator,
            principals: files.path("principals.json"),
            partition: "aws".into(),
            region: REGION.into(),
            account: "111122223333".into(),
            clock,
        })
        .unwrap();
        Self {
            files,
            kms,
            seconds_ahead,
        }
    }

    pub(crate) fn client(&self, name: &str) -> Client {
        self.files.client(self.kms.address(), name)
    }

    pub(crate) fn let_time_pass(&self, seconds: u64) {
        self.seconds_ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    /// A key with this policy, made by the administrator.
    pub(crate) async fn create_key(&self, policy: &str) -> String {
        create_key(&self.client("administrator"), policy).await
    }

    pub(crate) fn enclave(&self, image: [u8; 48]) -> Enclave {
        Enclave::new(&self.files.pki, image)
    }
}

pub(crate) async fn create_key(administrator: &Client, policy: &str) -> String {
    let created = administrator
        .create_key()
        .policy(policy)
        .bypass_policy_lockout_safety_check(true)
        .send()
        .await
        .unwrap();
    created.key_metadata.unwrap().arn.unwrap()
}

/// An enclave as KMS sees it: a document, and the key it names.
pub(crate) struct Enclave {
    nsm: SoftwareNsm,
    key: PrivateDecryptingKey,
}

impl Enclave {
    pub(crate) fn new(pki: &Pki, image: [u8; 48]) -> Self {
        let pcrs = BTreeMap::from([(0, image), (1, [0x11; 48]), (2, [0x22; 48])]);
        let nsm = SoftwareNsm::new(pki, pcrs).unwrap();
        Self {
            nsm,
            key: PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    pub(crate) fn recipient(&self) -> RecipientInfo {
        let public: PublicKeyX509Der<'_> = self.key.public_key().as_der().unwrap();
        self.recipient_with_key(Some(public.as_ref().to_vec()))
    }

    pub(crate) fn recipient_with_key(&self, public_key: Option<Vec<u8>>) -> RecipientInfo {
        let claims = Claims {
            public_key,
            ..Claims::default()
        };
        recipient_info(self.nsm.attest(&claims).unwrap())
    }

    /// Opens a CiphertextForRecipient of one chunk; the places are those of KMS's own encoding for
    /// an RSA-2048 key.
    pub(crate) fn open(&self, ciphertext: &Blob) -> Vec<u8> {
        let message = ciphertext.as_ref();
        let oaep = OaepPrivateDecryptingKey::new(self.key.clone()).unwrap();
        let mut content_key = vec![0; oaep.min_output_size()];
        let content_key = oaep
            .decrypt(
                &OAEP_SHA256_MGF1SHA256,
                &message[131..387],
                &mut content_key,
                None,
            )
            .unwrap();
        let iv: [u8; 16] = message[415..431].try_into().unwrap();
        let mut content = message[435..435 + usize::from(message[434])].to_vec();
        let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(
            UnboundCipherKey::new(&AES_256, content_key).unwrap(),
        )
        .unwrap();
        cipher
            .decrypt(&mut content, DecryptionContext::Iv128(iv.into()))
            .unwrap()
            .to_vec()
    }
}

pub(crate) fn recipient_info(document: Vec<u8>) -> RecipientInfo {
    RecipientInfo::builder()
        .key_encryption_algorithm(KeyEncryptionMechanism::RsaesOaepSha256)
        .attestation_document(Blob::new(document))
        .build()
}

pub(crate) fn role(name: &str) -> String {
    let account = if name == "stranger" {
        "999988887777"
    } else {
        "111122223333"
    };
    format!("arn:aws:iam::{account}:role/cloister/{name}")
}

/// Access key, secret, session token.
pub(crate) fn credentials(name: &str) -> (String, String, String) {
    (
        format!("AKIA{}", name.to_uppercase()),
        format!("{name:k<40}"),
        format!("token-of-{name}"),
    )
}

/// The exception that a call failed with.
pub(crate) fn exception<T, E: ProvideErrorMetadata, R>(
    result: Result<T, SdkError<E, R>>,
) -> String {
    result
        .err()
        .and_then(|error| error.code().map(str::to_owned))
        .unwrap_or_else(|| "no exception".to_owned())
}

/// Polls until a file is there and returns its JSON.
pub(crate) fn wait_for_json(path: &Path) -> Value {
    let deadline = SystemTime::now() + Duration::from_secs(20);
    loop {
        if let Ok(text) = fs::read(path) {
            return serde_json::from_slice(&text).unwrap();
        }
        assert!(
            SystemTime::now() < deadline,
            "{} did not appear",
            path.display()
        );
        std::thread::yield_now();
    }
}
