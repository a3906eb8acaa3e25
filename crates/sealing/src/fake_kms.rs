//! KMS as the tests see it: an HTTP client for the SDK that answers like KMS, with real keys,
//! contexts and CMS, and can be told to answer otherwise.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use aws_sdk_kms::Client;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region, RuntimeComponents};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value as Cbor;
use cloister_contract::Service;
use cloister_key_policy::{Deployment, Expected, Form, Measurements, Pcr0, render};
use cloister_kms_envelope::{Form as Encoding, encrypt};
use cloister_nsm::Nsm;
use cloister_nsm_software::{Pki, SoftwareNsm};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::adoption::{AdoptedKey, adopt};
use crate::kms::AttestedKms;
use crate::recipient::Recipient;

pub(crate) const ARN: &str =
    "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// Changes an answer on its way: operation, HTTP status, body.
type Tamper = Box<dyn Fn(&str, &mut u16, &mut Value) + Send + Sync>;

/// KMS with one key.
#[derive(Clone)]
pub(crate) struct FakeKms(Arc<State>);

struct State {
    /// By wrapped form.
    data_keys: Mutex<HashMap<Vec<u8>, Made>>,
    /// Operation and body of every request so far.
    calls: Mutex<Vec<(String, Value)>>,
    tamper: Mutex<Option<Tamper>>,
    /// A request is answered when there is a permit; normally there are plenty.
    gate: Semaphore,
}

/// A data key that was made.
struct Made {
    key: Vec<u8>,
    context: Value,
}

impl FakeKms {
    pub(crate) fn new() -> Self {
        Self(Arc::new(State {
            data_keys: Mutex::default(),
            calls: Mutex::default(),
            tamper: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        }))
    }

    /// From now on `tamper` changes what is answered.
    pub(crate) fn tamper(
        &self,
        tamper: impl Fn(&str, &mut u16, &mut Value) + Send + Sync + 'static,
    ) {
        *self.0.tamper.lock().unwrap() = Some(Box::new(tamper));
    }

    pub(crate) fn be_honest(&self) {
        *self.0.tamper.lock().unwrap() = None;
    }

    /// From now on nothing is answered until [`FakeKms::release`].
    pub(crate) fn hold(&self) {
        self.0.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn release(&self) {
        self.0.gate.add_permits(Semaphore::MAX_PERMITS);
    }

    /// The bodies of all requests for `operation` so far.
    pub(crate) fn calls(&self, operation: &str) -> Vec<Value> {
        let calls = self.0.calls.lock().unwrap();
        calls
            .iter()
            .filter(|(name, _)| name == operation)
            .map(|(_, body)| body.clone())
            .collect()
    }

    pub(crate) fn client(&self) -> Client {
        Client::from_conf(
            aws_sdk_kms::Config::builder()
                .behavior_version(BehaviorVersion::v2026_01_12())
                .region(Region::new("eu-central-1"))
                .credentials_provider(Credentials::new(
                    "AKIDEXAMPLE",
                    "example",
                    None,
                    None,
                    "test",
                ))
                .http_client(self.clone())
                .build(),
        )
    }

    /// Adopts the key as a signer or generator would.
    pub(crate) async fn adopted(&self) -> AdoptedKey {
        let deployment = deployment();
        adopt(&self.client(), ARN, &expected(&deployment))
            .await
            .unwrap()
    }

    pub(crate) async fn attested(&self, service: Service) -> Arc<AttestedKms> {
        let recipient = Recipient::start(software_nsm());
        Arc::new(AttestedKms::new(
            self.client(),
            self.adopted().await,
            recipient,
            service,
        ))
    }

    async fn answer(&self, request: HttpRequest) -> HttpResponse {
        let target = request.headers().get("x-amz-target").unwrap();
        let operation = target.strip_prefix("TrentService.").unwrap().to_owned();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        self.0
            .calls
            .lock()
            .unwrap()
            .push((operation.clone(), body.clone()));
        self.0.gate.acquire().await.unwrap().forget();

        let (mut status, mut answer) = self.honest_answer(&operation, &body);
        if let Some(tamper) = &*self.0.tamper.lock().unwrap() {
            tamper(&operation, &mut status, &mut answer);
        }
        let body = match answer {
            Value::String(raw) => raw,
            answer => answer.to_string(),
        };
        let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
        response
            .headers_mut()
            .insert("x-amzn-requestid", "request-1");
        response
    }

    fn honest_answer(&self, operation: &str, request: &Value) -> (u16, Value) {
        assert_eq!(request["KeyId"], ARN);
        match operation {
            "DescribeKey" => (200, json!({ "KeyMetadata": key_metadata() })),
            "GetKeyPolicy" => (
                200,
                json!({ "Policy": policy(Form::Locked), "PolicyName": "default" }),
            ),
            "ListGrants" => (200, json!({ "Grants": [], "Truncated": false })),
            "GenerateDataKey" => {
                let (mut key, mut wrapped) = (vec![0; 32], vec![0; 184]);
                aws_lc_rs::rand::fill(&mut key).unwrap();
                aws_lc_rs::rand::fill(&mut wrapped).unwrap();
                let entry = Made {
                    key: key.clone(),
                    context: request["EncryptionContext"].clone(),
                };
                self.0
                    .data_keys
                    .lock()
                    .unwrap()
                    .insert(wrapped.clone(), entry);
                (
                    200,
                    json!({
                        "KeyId": ARN,
                        "Plaintext": "",
                        "CiphertextBlob": STANDARD.encode(wrapped),
                        "CiphertextForRecipient": for_recipient(request, &key),
                    }),
                )
            }
            "Decrypt" => {
                let wrapped = STANDARD
                    .decode(request["CiphertextBlob"].as_str().unwrap())
                    .unwrap();
                match self.0.data_keys.lock().unwrap().get(&wrapped) {
                    Some(Made { key, context }) if *context == request["EncryptionContext"] => (
                        200,
                        json!({
                            "KeyId": ARN,
                            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
                            "CiphertextForRecipient": for_recipient(request, key),
                        }),
                    ),
                    _ => (400, json!({ "__type": "InvalidCiphertextException" })),
                }
            }
            other => panic!("{other}"),
        }
    }
}

/// Encrypts to the key in the request's attestation document, whose signature this double does not
/// check.
fn for_recipient(request: &Value, content: &[u8]) -> String {
    let recipient = &request["Recipient"];
    assert_eq!(recipient["KeyEncryptionAlgorithm"], "RSAES_OAEP_SHA_256");
    let document = STANDARD
        .decode(recipient["AttestationDocument"].as_str().unwrap())
        .unwrap();
    let public_key = claim(&document, "public_key");
    STANDARD.encode(encrypt(&public_key, content, Encoding::KMS).unwrap())
}

/// A claim of an attestation document.
pub(crate) fn claim(document: &[u8], name: &str) -> Vec<u8> {
    let cose: Cbor = ciborium::from_reader(document).unwrap();
    let payload: Cbor =
        ciborium::from_reader(&cose.as_array().unwrap()[2].as_bytes().unwrap()[..]).unwrap();
    let claims = payload.into_map().unwrap();
    let claim = claims
        .into_iter()
        .find(|(key, _)| key.as_text() == Some(name))
        .unwrap();
    claim.1.into_bytes().unwrap()
}

pub(crate) fn software_nsm() -> Arc<dyn Nsm> {
    let pcrs = BTreeMap::from([(0, [1; 48]), (1, [2; 48]), (2, [3; 48])]);
    Arc::new(SoftwareNsm::new(&Pki::generate().unwrap(), pcrs).unwrap())
}

pub(crate) fn deployment() -> Deployment {
    let role = |name: &str| format!("arn:aws:iam::111122223333:role/{name}");
    Deployment {
        partition: "aws".into(),
        account: "111122223333".into(),
        region: "eu-central-1".into(),
        signer_role: role("signer"),
        generator_role: role("generator"),
        retirement_role: role("retirement"),
        administrator_role: role("administrator"),
    }
}

pub(crate) fn measurements() -> Measurements {
    Measurements::new(
        Pcr0::try_from([1; 48]).unwrap(),
        Pcr0::try_from([2; 48]).unwrap(),
    )
}

pub(crate) fn expected(deployment: &Deployment) -> Expected<'_> {
    let Measurements {
        signer, generator, ..
    } = measurements();
    Expected {
        deployment,
        signer,
        generator: Some(generator),
        accept_open: false,
    }
}

pub(crate) fn policy(form: Form) -> String {
    render(&deployment(), &measurements(), form).unwrap()
}

fn key_metadata() -> Value {
    json!({
        "AWSAccountId": "111122223333",
        "Arn": ARN,
        "CreationDate": 1_700_000_000.5,
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "Description": "",
        "Enabled": true,
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "KeyId": "1234abcd-12ab-34cd-56ef-1234567890ab",
        "KeyManager": "CUSTOMER",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "KeyState": "Enabled",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "MultiRegion": false,
        "Origin": "AWS_KMS",
    })
}

impl HttpClient for FakeKms {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for FakeKms {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let kms = self.clone();
        HttpConnectorFuture::new(async move { Ok(kms.answer(request).await) })
    }
}

impl fmt::Debug for FakeKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeKms")
    }
}
