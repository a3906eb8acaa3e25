//! Handles the requests of a key generator.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use cloister_contract::{Service, events};
use cloister_keystore::{DynamoDb, KeyStore};
use cloister_protocol::message::{KeyCreated, Operation, Request};
use cloister_protocol::request::{GenerateKey, SetKey};
use cloister_protocol::{Code, Rejection};
use cloister_runtime::{CurrentCredentials, EnclaveState, Platform};
use cloister_transport::Handler;
use tokio_util::task::AbortOnDropHandle;

use crate::canary;
use crate::generate_key::generate_key;
use crate::import_key::import_key;
use crate::verified_store::VerifiedStore;
use crate::wallet_key::within_size;

/// Generates and imports keys, once it is ready.
#[derive(Debug)]
pub struct KeyGenerator<Store = DynamoDb> {
    state: Arc<EnclaveState<VerifiedStore<Store>>>,
    _preparation: AbortOnDropHandle<()>,
}

impl KeyGenerator {
    /// A key generator that writes to the measured table. It writes its canary as soon as it is
    /// configured. Has to be called inside a Tokio runtime.
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
    /// As [`KeyGenerator::new`], with another store of rows.
    pub fn with_store(
        platform: Arc<Platform>,
        store: impl Fn(CurrentCredentials) -> Store + Send + Sync + 'static,
    ) -> Self {
        let entropy = platform.entropy.clone();
        let build =
            move |kms, credentials| VerifiedStore::new(kms, store(credentials), entropy.clone());
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
}

impl<Store: KeyStore> Handler for KeyGenerator<Store> {
    async fn handle(&self, request: Request) -> Result<Vec<u8>, Rejection> {
        match (request.operation, request.parts.as_slice()) {
            (Operation::Health, []) => Ok(self.state.health()),
            (Operation::ProveBoot, [nonce]) => self.state.prove_boot(nonce).await,
            (Operation::Configure, [configure]) => self.state.configure(configure).await,
            (Operation::GenerateKey, [body]) => {
                let GenerateKey { secret } = GenerateKey::parse(within_size(body)?)?;
                let store = self.state.ready()?;
                created(&generate_key(store.as_ref(), &secret).await?)
            }
            (Operation::SetKey, [body]) => {
                let SetKey { secret, eth_key } = SetKey::parse(within_size(body)?)?;
                let store = self.state.ready()?;
                created(&import_key(store.as_ref(), &secret, eth_key).await?)
            }
            _ => Err(Rejection::new(
                Code::ProtocolViolation,
                "a key generator does not do this",
            )),
        }
    }
}

fn created(created: &KeyCreated) -> Result<Vec<u8>, Rejection> {
    Ok(serde_json::to_vec(created).expect("strings can be written as JSON"))
}

/// Makes the generator ready, and tries until it succeeds: credentials may lack a permission that is
/// granted later.
async fn prepare<Store: KeyStore>(state: Arc<EnclaveState<VerifiedStore<Store>>>) {
    let store = state.adopted().await;
    let mut pause = FIRST_PAUSE;
    loop {
        let outcome = canary::write(&store).await.map_err(Rejection::from);
        match outcome.and_then(|canary| state.become_ready(&canary)) {
            Ok(()) => return,
            Err(rejection) => tracing::warn!(
                event = events::CANARY_NOT_WRITTEN,
                code = rejection.code.as_str(),
                "no canary yet"
            ),
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Half of the pause and up to the other half: generators that start together do not stay in step.
fn jittered(pause: Duration) -> Duration {
    // The standard library seeds each of these at random.
    let random = RandomState::new().hash_one(()) % 1000;
    let share = u32::try_from(random).expect("less than 1000");
    pause / 2 + pause / 2 * share / 1000
}

/// Before the second attempt at a canary.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// After many failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_pause_is_at_least_half_as_long_and_differs() {
        let pauses: BTreeSet<_> = (0..100).map(|_| jittered(LONGEST_PAUSE)).collect();
        assert!(pauses.len() > 10);
        let within = LONGEST_PAUSE / 2..LONGEST_PAUSE;
        assert!(pauses.iter().all(|pause| within.contains(pause)));
    }
}
