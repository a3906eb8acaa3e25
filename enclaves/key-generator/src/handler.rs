//! The requests of a key generator.

use std::sync::Arc;
use std::time::Duration;

use cloister_keystore::{DynamoDb, KeyStore};
use cloister_protocol::message::{KeyCreated, Operation, Request};
use cloister_protocol::request::{GenerateKey, SetKey};
use cloister_protocol::{CallerSecret, Code, PrivateKey, Rejection};
use cloister_runtime::{CurrentCredentials, EnclaveState, Platform};
use cloister_sealing::Service;
use cloister_transport::Handler;
use tokio_util::task::AbortOnDropHandle;

use crate::canary;
use crate::create::{create, within_size};
use crate::vault::Vault;

/// Makes keys for callers, once it is ready.
#[derive(Debug)]
pub struct KeyGenerator<Store = DynamoDb> {
    state: Arc<EnclaveState<Vault<Store>>>,
    _preparation: AbortOnDropHandle<()>,
}

impl KeyGenerator {
    /// A key generator that writes into the measured table. It waits to be configured and then
    /// writes its canary by itself. Has to be called inside a Tokio runtime.
    pub fn new(platform: Arc<Platform>) -> Self {
        let aws = platform.aws.clone();
        let table_arn = platform.settings.table_arn.clone();
        Self::with_store(platform, move |credentials| {
            let client = aws_sdk_dynamodb::Client::new(&aws.config("dynamodb", credentials));
            DynamoDb::new(client, table_arn.clone())
        })
    }
}

impl<Store: KeyStore> KeyGenerator<Store> {
    /// The same over another place for rows.
    pub fn with_store(
        platform: Arc<Platform>,
        store: impl Fn(CurrentCredentials) -> Store + Send + Sync + 'static,
    ) -> Self {
        let entropy = platform.entropy.clone();
        let build = move |kms, credentials| Vault::new(kms, store(credentials), entropy.clone());
        let state = Arc::new(EnclaveState::new(
            platform,
            Service::KeyGenerator,
            env!("CARGO_PKG_VERSION"),
            build,
        ));
        let preparation = AbortOnDropHandle::new(tokio::spawn(prepare(state.clone())));
        Self {
            state,
            _preparation: preparation,
        }
    }

    async fn create(
        &self,
        secret: &CallerSecret,
        import: Option<PrivateKey>,
    ) -> Result<Vec<u8>, Rejection> {
        let created: KeyCreated = create(self.state.ready()?.as_ref(), secret, import).await?;
        Ok(serde_json::to_vec(&created).expect("strings only"))
    }
}

impl<Store: KeyStore> Handler for KeyGenerator<Store> {
    async fn handle(&self, request: Request) -> Result<Vec<u8>, Rejection> {
        match (request.operation, request.parts.as_slice()) {
            (Operation::Health, []) => Ok(self.state.health()),
            (Operation::ProveBoot, [nonce]) => self.state.prove_boot(nonce).await,
            (Operation::Configure, [configure]) => self.state.configure(configure).await,
            (Operation::GenerateKey, [body]) => {
                let GenerateKey { secret } = GenerateKey::parse(within_size(body)?)?;
                self.create(&secret, None).await
            }
            (Operation::SetKey, [body]) => {
                let SetKey { secret, eth_key } = SetKey::parse(within_size(body)?)?;
                self.create(&secret, Some(eth_key)).await
            }
            _ => Err(Rejection::new(
                Code::ProtocolViolation,
                "a key generator does not do this",
            )),
        }
    }
}

/// Makes the generator ready, however often it takes: credentials may lack a permission that is
/// granted later.
async fn prepare<Store: KeyStore>(state: Arc<EnclaveState<Vault<Store>>>) {
    let vault = state.adopted().await;
    let mut pause = FIRST_PAUSE;
    loop {
        let outcome = canary::write(&vault).await.map_err(Rejection::from);
        match outcome.and_then(|canary| state.become_ready(&canary)) {
            Ok(()) => return,
            Err(rejection) => tracing::warn!(code = rejection.code.as_str(), "no canary yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Before the canary is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Before the canary is tried again after many failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
