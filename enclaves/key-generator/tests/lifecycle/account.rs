//! An account with a KMS and some roles.

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_kms::Client;
use aws_sdk_kms::config::{BehaviorVersion, Config, Region};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use cloister_key_policy::{Deployment, Form, Measurements, Pcr0, render};
use cloister_local_kms::{LocalKms, Options, https};
use cloister_nsm_software::Pki;
use cloister_protocol::Redacted;
use cloister_protocol::message::Credentials;
use cloister_runtime::Settings;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tempfile::TempDir;

const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-central-1";
pub(crate) const KMS: &str = "kms.eu-central-1.amazonaws.com";
pub(crate) const SIGNER: [u8; 48] = [0x51; 48];
pub(crate) const GENERATOR: [u8; 48] = [0x6e; 48];

pub(crate) struct Account {
    pub(crate) directory: TempDir,
    pub(crate) pki: Pki,
    pub(crate) kms: LocalKms,
    ca: String,
}

impl Account {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let names = vec![KMS.to_owned(), "127.0.0.1".to_owned()];
        let issuer = Issuer::new(ca, ca_key);
        fs::write(
            path("kms.pem"),
            CertificateParams::new(names)
                .unwrap()
                .signed_by(&key, &issuer)
                .unwrap()
                .pem(),
        )
        .unwrap();
        fs::write(path("kms-key.pem"), key.serialize_pem()).unwrap();
        let pki = Pki::generate().unwrap();
        fs::write(path("nsm-root.der"), pki.root_der()).unwrap();
        admit(&directory, &["signer", "key-generator", "administrator"]);
        let kms = LocalKms::start(Options {
            https: https::Options {
                listen: "127.0.0.1:0".parse().unwrap(),
                address_file: None,
                tls_cert: path("kms.pem"),
                tls_key: path("kms-key.pem"),
            },
            data: path("kms"),
            nsm_root: path("nsm-root.der"),
            accept_unsigned_documents_of_the_emulator: false,
            principals: path("principals.json"),
            partition: "aws".into(),
            region: REGION.into(),
            account: ACCOUNT.into(),
            clock: Arc::new(SystemTime::now),
        })
        .unwrap();
        Self {
            directory,
            pki,
            kms,
            ca: ca_pem,
        }
    }

    /// From now on these and no other credentials are valid: a role's name, and what tells two
    /// credentials of it apart after a `#`.
    pub(crate) fn admit(&self, names: &[&str]) {
        admit(&self.directory, names);
    }

    pub(crate) async fn create_cmk(&self, form: Form) -> String {
        let pcr0 = |bytes| Pcr0::try_from(bytes).unwrap();
        let measurements = Measurements::new(pcr0(SIGNER), pcr0(GENERATOR));
        let policy = render(&deployment(), &measurements, form).unwrap();
        let created = self
            .administrator()
            .create_key()
            .policy(policy)
            .bypass_policy_lockout_safety_check(true)
            .send()
            .await;
        created.unwrap().key_metadata.unwrap().arn.unwrap()
    }

    fn administrator(&self) -> Client {
        let roots = TrustStore::empty()
            .with_native_roots(false)
            .with_pem_certificate(self.ca.as_bytes());
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(
                TlsContext::builder()
                    .with_trust_store(roots)
                    .build()
                    .unwrap(),
            )
            .build_https();
        let pushed = credentials("administrator");
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(aws_sdk_kms::config::Credentials::new(
                pushed.access_key_id.expose(),
                pushed.secret_access_key.expose(),
                Some(pushed.session_token.expose().to_owned()),
                None,
                "test",
            ))
            .endpoint_url(format!("https://{}", self.kms.address()))
            .http_client(http);
        Client::from_conf(config.build())
    }

    pub(crate) fn settings(&self, accept_open_policy: bool) -> Settings {
        let Deployment {
            partition,
            account,
            region,
            ..
        } = deployment();
        let settings = json!({
            "partition": partition,
            "account": account,
            "region": region,
            "signer_role": role("signer"),
            "generator_role": role("key-generator"),
            "retirement_role": role("retirement"),
            "administrator_role": role("administrator"),
            "table_arn": format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/keys"),
            "tls_roots": [self.ca],
            "accept_open_policy": accept_open_policy,
            "signer_pcr0": "51".repeat(48),
        });
        Settings::parse(settings.to_string().as_bytes()).unwrap()
    }
}

/// The credentials that a pod pushes for `name`.
pub(crate) fn credentials(name: &str) -> Credentials {
    let redacted = |text: String| Redacted::new(text);
    Credentials {
        access_key_id: redacted(format!(
            "AKIA{}",
            name.to_uppercase().replace(['-', '#', '@'], "")
        )),
        secret_access_key: redacted(format!("{name:x<40}")),
        session_token: redacted(format!("token of {name}")),
        expires_at: None,
    }
}

fn admit(directory: &TempDir, names: &[&str]) {
    let principal = |name: &&str| {
        let pushed = credentials(name);
        let (who, account) = match name.split_once('@') {
            Some((who, account)) => (who, account),
            None => (*name, ACCOUNT),
        };
        json!({
            "access_key_id": pushed.access_key_id.expose(),
            "secret_access_key": pushed.secret_access_key.expose(),
            "session_token": pushed.session_token.expose(),
            "principal_arn": format!("arn:aws:iam::{account}:role/{}", who.split('#').next().unwrap()),
        })
    };
    let principals = names.iter().map(principal).collect::<Vec<_>>();
    fs::write(
        directory.path().join("principals.json"),
        json!({ "principals": principals }).to_string(),
    )
    .unwrap();
}

fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

fn deployment() -> Deployment {
    Deployment {
        partition: "aws".into(),
        account: ACCOUNT.into(),
        region: REGION.into(),
        signer_role: role("signer"),
        generator_role: role("key-generator"),
        retirement_role: role("retirement"),
        administrator_role: role("administrator"),
    }
}
