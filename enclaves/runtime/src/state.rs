//! The state of an enclave: unconfigured, adopted, ready. Credentials and a CMK's ARN come from the
//! pod, the CMK is adopted, and only a row that was opened under it makes the enclave ready.

use std::sync::Arc;

use aws_sdk_kms::Client;
use cloister_contract::{ErrorChain, Service, events};
use cloister_key_policy::{Expected, Pcr0};
use cloister_protocol::message::{Configure, HealthReport, State};
use cloister_protocol::{Code, KeyId, Rejection};
use cloister_sealing::{AttestedKms, OpenedRow, adopt};
use tokio::sync::{Mutex, watch};

use crate::aws::{CurrentCredentials, credentials};
use crate::platform::Platform;

/// The state of an enclave during this boot. `S` is the service that it carries out once it has
/// adopted a CMK.
pub struct EnclaveState<S> {
    platform: Arc<Platform>,
    service: Service,
    version: &'static str,
    credentials: CurrentCredentials,
    build_service: Box<BuildService<S>>,
    /// Held while configuring: one adoption, one change of credentials at a time.
    configuring: Mutex<()>,
    phase: watch::Sender<Phase<S>>,
}

type BuildService<S> = dyn Fn(Arc<AttestedKms>, CurrentCredentials) -> S + Send + Sync;

/// Phases only advance; the last one ends with the boot.
enum Phase<S> {
    Unconfigured,
    Adopted(Arc<Adopted<S>>),
    Ready(Arc<Adopted<S>>),
}

struct Adopted<S> {
    kms: Arc<AttestedKms>,
    service: Arc<S>,
}

impl<S: Send + Sync + 'static> EnclaveState<S> {
    /// An enclave that waits to be configured. `build_service` is called once, with KMS under the
    /// adopted CMK and credentials that stay current.
    pub fn new(
        platform: Arc<Platform>,
        service: Service,
        version: &'static str,
        build_service: impl Fn(Arc<AttestedKms>, CurrentCredentials) -> S + Send + Sync + 'static,
    ) -> Self {
        Self {
            platform,
            service,
            version,
            credentials: CurrentCredentials::default(),
            build_service: Box::new(build_service),
            configuring: Mutex::new(()),
            phase: watch::Sender::new(Phase::Unconfigured),
        }
    }

    /// Takes credentials and the ARN of a CMK from the pod, [`Configure`] as JSON.
    ///
    /// The first CMK that can be adopted is the one of this boot. Credentials replace working ones
    /// only after a DescribeKey of the adopted CMK succeeded with them: whoever bound the enclave can
    /// push credentials, but cannot redirect it to another account.
    ///
    /// # Errors
    /// [`Code::KeyPolicyRefused`] if the CMK may not be adopted or is not the adopted one;
    /// [`Code::KmsDenied`], [`Code::KmsUnavailable`]. Earlier credentials stay in use then.
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
        match self.adopted_now() {
            Some(adopted) if adopted.kms.adopted().arn() == cmk_arn => {
                adopted.kms.replace_client(client).await?;
                self.credentials.replace(pushed);
            }
            Some(_) => {
                return Err(Rejection::new(
                    Code::KeyPolicyRefused,
                    "another CMK was adopted for this boot",
                ));
            }
            None => {
                let kms = self.adopt(client, &cmk_arn).await?;
                self.credentials.replace(pushed);
                let service = Arc::new((self.build_service)(kms.clone(), self.credentials.clone()));
                self.phase
                    .send_replace(Phase::Adopted(Arc::new(Adopted { kms, service })));
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
                event = events::CMK_NOT_ADOPTED,
                arn,
                error = %ErrorChain(error),
                "the CMK was not adopted"
            );
        })?;
        tracing::info!(
            event = events::CMK_ADOPTED,
            arn,
            locked = adopted.is_locked(),
            "adopted the CMK"
        );
        Ok(Arc::new(AttestedKms::new(
            client,
            adopted,
            self.platform.recipient.clone(),
            self.service,
        )))
    }

    /// The service, once a CMK has been adopted.
    pub async fn adopted(&self) -> Arc<S> {
        let mut phases = self.phase.subscribe();
        loop {
            if let Some(adopted) = self.adopted_now() {
                return adopted.service.clone();
            }
            phases
                .changed()
                .await
                .expect("the sender is borrowed from self");
        }
    }

    /// The service before the enclave is ready: for what makes it ready.
    ///
    /// # Errors
    /// [`Code::NotReady`] if no CMK has been adopted.
    pub fn service(&self) -> Result<Arc<S>, Rejection> {
        self.adopted_now()
            .map(|adopted| adopted.service.clone())
            .ok_or_else(not_ready)
    }

    /// The service, for callers' requests.
    ///
    /// # Errors
    /// [`Code::NotReady`] before [`EnclaveState::become_ready`].
    pub fn ready(&self) -> Result<Arc<S>, Rejection> {
        match &*self.phase.borrow() {
            Phase::Ready(adopted) => Ok(adopted.service.clone()),
            _ => Err(not_ready()),
        }
    }

    /// Makes the enclave ready. Takes the proof that it can open rows: the opened canary.
    ///
    /// # Errors
    /// [`Code::SealedRowRefused`] if it is another row; [`Code::NotReady`] if no CMK has been
    /// adopted.
    pub fn become_ready(&self, canary: &OpenedRow) -> Result<(), Rejection> {
        if canary.key_id() != KeyId::CANARY {
            return Err(Rejection::new(
                Code::SealedRowRefused,
                "the row is not the canary",
            ));
        }
        let adopted = self.adopted_now().ok_or_else(not_ready)?;
        let before = self.phase.send_replace(Phase::Ready(adopted));
        if !matches!(before, Phase::Ready(_)) {
            tracing::info!("ready");
        }
        Ok(())
    }

    /// [`Platform::prove_boot`]. Works in every state: an operator can ask an enclave that is not
    /// ready.
    ///
    /// # Errors
    /// Those of [`Platform::prove_boot`].
    pub async fn prove_boot(&self, nonce: &[u8]) -> Result<Vec<u8>, Rejection> {
        self.platform.prove_boot(nonce).await
    }

    /// The health report, [`HealthReport`] as JSON.
    pub fn health(&self) -> Vec<u8> {
        let state = match &*self.phase.borrow() {
            Phase::Unconfigured => State::Unconfigured,
            Phase::Adopted(_) => State::Adopted,
            Phase::Ready(_) => State::Ready,
        };
        let adopted = self.adopted_now();
        let adopted = adopted.as_ref().map(|adopted| adopted.kms.adopted());
        let report = HealthReport {
            service: self.service,
            version: self.version.to_owned(),
            state,
            cmk_arn: adopted.map(|adopted| adopted.arn().to_owned()),
            locked: adopted.is_some_and(|adopted| adopted.is_locked()),
            pcr0: const_hex::encode(self.platform.pcr0),
        };
        serde_json::to_vec(&report).expect("strings and a flag only")
    }

    fn adopted_now(&self) -> Option<Arc<Adopted<S>>> {
        match &*self.phase.borrow() {
            Phase::Unconfigured => None,
            Phase::Adopted(adopted) | Phase::Ready(adopted) => Some(adopted.clone()),
        }
    }
}

impl<S> std::fmt::Debug for EnclaveState<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnclaveState")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

fn not_ready() -> Rejection {
    Rejection::new(Code::NotReady, "the enclave is not ready yet")
}
