//! An enclave in this process, and what its pod does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cloister_bridge::{Egress, Limits};
use cloister_key_generator::KeyGenerator;
use cloister_nsm_software::SoftwareNsm;
use cloister_protocol::message::{Configure, HealthReport, KeyCreated, Request, Signed, State};
use cloister_protocol::request::AuthenticatedRequest;
use cloister_protocol::{CallerSecret, KeyId, Operation, Rejection, SealedRow, SessionValue};
use cloister_runtime::{Boot, Platform};
use cloister_signer::Signer;
use cloister_transport::{Address, Client, Handler, Session};
use serde::de::DeserializeOwned;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::account::{Account, GENERATOR, KMS, SIGNER, credentials};
use crate::rows::Rows;

pub(crate) const SECRET: &str = "9779d2b8f0bc495b1691ce1a2baf8004";

static STARTED: AtomicUsize = AtomicUsize::new(0);

/// Ends with its last reference.
pub(crate) struct Enclave {
    pod: Client,
    _shutdown: DropGuard,
}

impl Enclave {
    pub(crate) fn signer(account: &Account) -> Self {
        Self::start(account, SIGNER, true, Signer::new)
    }

    pub(crate) fn generator(account: &Account, rows: &Rows) -> Self {
        let rows = rows.clone();
        Self::start(account, GENERATOR, true, |platform| {
            KeyGenerator::with_store(platform, move |_| rows.clone())
        })
    }

    pub(crate) fn start<H: Handler>(
        account: &Account,
        pcr0: [u8; 48],
        accept_open: bool,
        application: impl FnOnce(Arc<Platform>) -> H + Send + 'static,
    ) -> Self {
        let nsm = SoftwareNsm::new(&account.pki, [(0, pcr0)].into()).unwrap();
        let boot_key = nsm.make_boot_key().unwrap();
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let listen = Address::Unix(
            account
                .directory
                .path()
                .join(format!("enclave-{number}.sock")),
        );
        let shutdown = CancellationToken::new();
        let boot = Boot {
            listen: listen.clone(),
            settings: account.settings(accept_open),
            nsm: Arc::new(nsm),
            boot_key,
            shutdown: shutdown.clone(),
        };
        tokio::spawn(async move { cloister_runtime::run(boot, application).await.unwrap() });
        let allow = format!("{KMS}:443={}", account.kms.address())
            .parse()
            .unwrap();
        let session = Session::new(SessionValue::new([7; 32]));
        let egress = Egress::new(listen.clone(), session.clone(), allow, Limits::default());
        let stop = shutdown.clone();
        tokio::spawn(async move { egress.run(stop).await });
        Self {
            pod: Client::new(listen, session),
            _shutdown: shutdown.drop_guard(),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        operation: Operation,
        parts: Vec<Bytes>,
    ) -> Result<T, Rejection> {
        let answer = self.pod.call(Request { operation, parts }).await?;
        Ok(serde_json::from_slice(&answer).unwrap())
    }

    pub(crate) async fn health(&self) -> HealthReport {
        // The enclave may still be starting.
        eventually(async || self.call(Operation::Health, vec![]).await.ok()).await
    }

    pub(crate) async fn configure(
        &self,
        cmk_arn: &str,
        who: &str,
    ) -> Result<HealthReport, Rejection> {
        self.health().await;
        let configure = Configure {
            cmk_arn: cmk_arn.to_owned(),
            credentials: credentials(who),
        };
        self.call(
            Operation::Configure,
            vec![serde_json::to_vec(&configure).unwrap().into()],
        )
        .await
    }

    pub(crate) async fn until_ready(&self) -> HealthReport {
        eventually(async || Some(self.health().await).filter(|report| report.state == State::Ready))
            .await
    }

    pub(crate) async fn open_canary(&self, row: &SealedRow) -> Result<HealthReport, Rejection> {
        self.call(
            Operation::OpenCanary,
            vec![serde_json::to_vec(row).unwrap().into()],
        )
        .await
    }

    pub(crate) async fn generate_key(&self) -> Result<KeyCreated, Rejection> {
        self.call(
            Operation::GenerateKey,
            vec![format!(r#"{{"secret":"{SECRET}"}}"#).into()],
        )
        .await
    }

    pub(crate) async fn set_key(&self, key: &str) -> Result<KeyCreated, Rejection> {
        let body = format!(r#"{{"secret":"{SECRET}","eth_key":"{key}"}}"#);
        self.call(Operation::SetKey, vec![body.into()]).await
    }

    pub(crate) async fn sign(
        &self,
        key_id: KeyId,
        row: &SealedRow,
        payload: &str,
    ) -> Result<Signed, Rejection> {
        let secret = CallerSecret::new(SECRET.to_owned().into()).unwrap();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let request = AuthenticatedRequest::new(key_id, &secret, now, payload);
        let row = serde_json::to_vec(row).unwrap();
        self.call(
            Operation::SignTransaction,
            vec![request.to_json().into(), row.into()],
        )
        .await
    }
}

/// Polls `ask` until it returns something.
async fn eventually<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .expect("it did not happen in time")
}
