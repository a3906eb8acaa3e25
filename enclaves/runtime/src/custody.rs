//! How an enclave comes to hold keys: credentials and a CMK's ARN come from the pod, the CMK is
//! adopted, and only a row that was opened under it makes the enclave ready.

use std::sync::Arc;

use aws_sdk_kms::Client;
use cloister_key_policy::{Expected, Pcr0};
use cloister_protocol::message::{Configure, HealthReport, State};
use cloister_protocol::{Code, KeyId, Rejection};
use cloister_sealing::{AttestedKms, OpenedRow, Service, adopt};
use tokio::sync::{Mutex, watch};

use crate::aws::{CurrentCredentials, credentials};
use crate::platform::Platform;

/// The state of an enclave of this boot. `Working` is what it works with once a CMK is adopted.
pub struct Custody<Working> {
    platform: Arc<Platform>,
    service: Service,
    version: &'static str,
    credentials: CurrentCredentials,
    begin: Box<dyn Fn(Arc<AttestedKms>, CurrentCredentials) -> Working + Send + Sync>,
    /// Held while configuring: one adoption, one change of credentials at a time.
    configuring: Mutex<()>,
    phase: watch::Sender<Phase<Working>>,
}

/// The last phase ends with the boot; there is no way back.
enum Phase<Working> {
    Unconfigured,
    Adopted(Arc<Held<Working>>),
    Ready(Arc<Held<Working>>),
}

struct Held<Working> {
    kms: Arc<AttestedKms>,
    working: Arc<Working>,
}

impl<Working: Send + Sync + 'static> Custody<Working> {
    /// An enclave that waits to be configured. `begin` is called once, with KMS under the adopted
    /// CMK and credentials that stay current.
    pub fn new(
        platform: Arc<Platform>,
        service: Service,
        version: &'static str,
        begin: impl Fn(Arc<AttestedKms>, CurrentCredentials) -> Working + Send + Sync + 'static,
    ) -> Self {
        Self {
            platform,
            service,
            version,
            credentials: CurrentCredentials::default(),
            begin: Box::new(begin),
            configuring: Mutex::new(()),
            phase: watch::Sender::new(Phase::Unconfigured),
        }
    }

    /// Takes credentials and the ARN of a CMK from the pod, [`Configure`] as JSON.
    ///
    /// The first CMK that can be adopted is the one of this boot. Credentials replace working ones
    /// only after a DescribeKey of the adopted CMK succeeded with them: whoever is on the node can
    /// push, but not redirect.
    ///
    /// # Errors
    /// [`Code::KeyPolicyRefused`] for a CMK that may not be adopted or is not the adopted one;
    /// [`Code::KmsDenied`], [`Code::KmsUnavailable`]. What worked before still works then.
    pub async fn configure(&self, body: &[u8]) -> Result<Vec<u8>, Rejection> {
        let Configure {
            cmk_arn,
            credentials: pushed,
        } = serde_json::from_slice(body).map_err(|_| {
            Rejection::new(
                Code::ProtocolViolation,
                "the pod sent a malformed configuration",
            )
        })?;
        let pushed = credentials(&pushed);
        let client = Client::new(&self.platform.aws.config("kms", pushed.clone()));

        let _configuring = self.configuring.lock().await;
        match self.held() {
            Some(held) if held.kms.adopted().arn() == cmk_arn => {
                held.kms.replace_client(client).await?;
                self.credentials.replace(pushed);
            }
            Some(_) => {
                return Err(Rejection::new(
                    Code::KeyPolicyRefused,
                    "another CMK was adopted for this boot",
                ));
            }
            None => {
                let held = self.adopt(client, &cmk_arn).await?;
                self.credentials.replace(pushed);
                let working = Arc::new((self.begin)(held.clone(), self.credentials.clone()));
                self.phase
                    .send_replace(Phase::Adopted(Arc::new(Held { kms: held, working })));
            }
        }
        Ok(self.health())
    }

    async fn adopt(&self, client: Client, arn: &str) -> Result<Arc<AttestedKms>, Rejection> {
        let own = Pcr0::try_from(self.platform.pcr0).map_err(|_| {
            Rejection::new(
                Code::KeyPolicyRefused,
                "an enclave in debug mode adopts no CMK",
            )
        })?;
        let settings = &self.platform.settings;
        let (signer, generator) = match self.service {
            Service::Signer => (own, None),
            Service::KeyGenerator => {
                let signer = settings.signer_pcr0.ok_or_else(|| {
                    Rejection::new(
                        Code::KeyPolicyRefused,
                        "the settings do not name the signer's image",
                    )
                })?;
                (signer, Some(own))
            }
        };
        let expected = Expected {
            deployment: &settings.deployment,
            signer,
            generator,
            accept_open: settings.accept_open_policy,
        };
        let adopted = adopt(&client, arn, &expected).await.inspect_err(|error| {
            tracing::warn!(
                arn,
                error = error as &dyn std::error::Error,
                "the CMK was not adopted"
            );
        })?;
        tracing::info!(arn, locked = adopted.is_locked(), "adopted a CMK");
        Ok(Arc::new(AttestedKms::new(
            client,
            adopted,
            self.platform.recipient.clone(),
            self.service,
        )))
    }

    /// Waits until a CMK is adopted.
    pub async fn adopted(&self) -> Arc<Working> {
        let mut phases = self.phase.subscribe();
        loop {
            if let Some(held) = self.held() {
                return held.working.clone();
            }
            phases
                .changed()
                .await
                .expect("the sender is borrowed from self");
        }
    }

    /// What to work with before the enclave is ready: to become ready.
    ///
    /// # Errors
    /// [`Code::NotReady`] without an adopted CMK.
    pub fn working(&self) -> Result<Arc<Working>, Rejection> {
        self.held()
            .map(|held| held.working.clone())
            .ok_or_else(not_ready)
    }

    /// What to work with for callers.
    ///
    /// # Errors
    /// [`Code::NotReady`] before [`Custody::become_ready`].
    pub fn ready(&self) -> Result<Arc<Working>, Rejection> {
        match &*self.phase.borrow() {
            Phase::Ready(held) => Ok(held.working.clone()),
            _ => Err(not_ready()),
        }
    }

    /// From now on the enclave serves. Asks for the proof that it can: the opened canary.
    ///
    /// # Errors
    /// [`Code::SealedRowRefused`] for any other row; [`Code::NotReady`] without an adopted CMK.
    pub fn become_ready(&self, canary: &OpenedRow) -> Result<(), Rejection> {
        if canary.key_id() != KeyId::CANARY {
            return Err(Rejection::new(
                Code::SealedRowRefused,
                "the row is not the canary",
            ));
        }
        let held = self.held().ok_or_else(not_ready)?;
        self.phase.send_replace(Phase::Ready(held));
        tracing::info!("ready");
        Ok(())
    }

    /// See [`Platform::prove_boot`]: in every state, so that an operator can ask an enclave that is
    /// not ready.
    ///
    /// # Errors
    /// As there.
    pub async fn prove_boot(&self, nonce: &[u8]) -> Result<Vec<u8>, Rejection> {
        self.platform.prove_boot(nonce).await
    }

    /// The answer to a question after the enclave's health, [`HealthReport`] as JSON.
    pub fn health(&self) -> Vec<u8> {
        let state = match &*self.phase.borrow() {
            Phase::Unconfigured => State::Unconfigured,
            Phase::Adopted(_) => State::Adopted,
            Phase::Ready(_) => State::Ready,
        };
        let held = self.held();
        let adopted = held.as_ref().map(|held| held.kms.adopted());
        let report = HealthReport {
            service: match self.service {
                Service::Signer => "signer".to_owned(),
                Service::KeyGenerator => "key-generator".to_owned(),
            },
            version: self.version.to_owned(),
            state,
            cmk_arn: adopted.map(|adopted| adopted.arn().to_owned()),
            locked: adopted.is_some_and(|adopted| adopted.is_locked()),
            pcr0: const_hex::encode(self.platform.pcr0),
        };
        serde_json::to_vec(&report).expect("strings and a flag only")
    }

    fn held(&self) -> Option<Arc<Held<Working>>> {
        match &*self.phase.borrow() {
            Phase::Unconfigured => None,
            Phase::Adopted(held) | Phase::Ready(held) => Some(held.clone()),
        }
    }
}

impl<Working> std::fmt::Debug for Custody<Working> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Custody")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

fn not_ready() -> Rejection {
    Rejection::new(Code::NotReady, "the enclave is not ready yet")
}
