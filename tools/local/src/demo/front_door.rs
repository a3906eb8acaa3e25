//! The API as a caller sees it: signed requests, their answers and their times.

use std::fmt;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes};
use anyhow::{Context as _, bail, ensure};
use cloister_client::{Client, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Wallet;

/// The front door, for one caller.
#[derive(Debug)]
pub(super) struct FrontDoor {
    client: Client,
}

/// A caller's secret for one key: 64 hex digits of randomness.
pub(super) struct Secret(pub(super) String);

impl Secret {
    pub(super) fn random() -> anyhow::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).context("the operating system has no randomness")?;
        Ok(Self(const_hex::encode(bytes)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A signed transaction as the API returns it.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) transaction: String,
    pub(super) hash: B256,
}

impl FrontDoor {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(super) async fn generate_key(&self) -> anyhow::Result<(Wallet, Duration)> {
        let secret = Secret::random()?;
        self.key("/generate_key", json!({ "secret": secret.0 }), secret)
            .await
    }

    pub(super) async fn set_key(&self, eth_key: &str) -> anyhow::Result<(Wallet, Duration)> {
        let secret = Secret::random()?;
        self.key(
            "/set_key",
            json!({ "secret": secret.0, "eth_key": eth_key }),
            secret,
        )
        .await
    }

    /// Has a transaction signed; `payload` is its JSON text, which reaches the enclave unchanged.
    pub(super) async fn sign(
        &self,
        wallet: &Wallet,
        payload: &str,
    ) -> anyhow::Result<(Signed, Duration)> {
        let (answer, timing) = self
            .post("/sign_transaction", &sign_request(wallet, payload))
            .await?;
        let success: Value = success(&answer)?;
        let text = |name: &str| {
            success[name]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("no `{name}`"))
        };
        let hash = text("transaction_hash")?
            .parse()
            .context("`transaction_hash` is not a hash")?;
        Ok((
            Signed {
                transaction: text("transaction_signed")?,
                hash,
            },
            timing,
        ))
    }

    /// Has 32 bytes signed as a UserOp hash.
    pub(super) async fn sign_hash(
        &self,
        wallet: &Wallet,
        hash: B256,
    ) -> anyhow::Result<(Bytes, Duration)> {
        let payload = json!({ "userOpHash": hash }).to_string();
        let (answer, timing) = self
            .post("/sign_transaction", &sign_request(wallet, &payload))
            .await?;
        let success: Value = success(&answer)?;
        let signature = success["signature"].as_str().context("no `signature`")?;
        Ok((signature.parse().context("`signature` is not hex")?, timing))
    }

    /// A signed request that must be refused with this status and code; returns the message.
    pub(super) async fn refused(
        &self,
        path: &str,
        body: &str,
        status: u16,
        code: &str,
    ) -> anyhow::Result<(String, Duration)> {
        let (answer, timing) = self.post(path, body).await?;
        let Some(refusal) = answer.refusal() else {
            bail!(
                "status {} where {status} {code} was due: {}",
                answer.status,
                answer.text()
            );
        };
        ensure!(
            (answer.status, refusal.status, &refusal.code[..]) == (status, status, code),
            "{} {} ({}) where {status} {code} was due",
            answer.status,
            refusal.code,
            refusal.error
        );
        Ok((refusal.error, timing))
    }

    /// A request without a signature.
    pub(super) async fn post_unsigned(
        &self,
        path: &str,
        body: &str,
    ) -> anyhow::Result<(Response, Duration)> {
        let request = self
            .client
            .request(http::Method::POST, path, body.to_owned())?;
        let started = Instant::now();
        let answer = self
            .client
            .send(request)
            .await
            .with_context(|| format!("POST {path}"))?;
        let took = started.elapsed();
        Ok((answer, took))
    }

    async fn key(
        &self,
        path: &str,
        body: Value,
        secret: Secret,
    ) -> anyhow::Result<(Wallet, Duration)> {
        let (answer, timing) = self.post(path, &body.to_string()).await?;
        let success: Value = success(&answer)?;
        let key_id = success["key_id"]
            .as_str()
            .context("no `key_id`")?
            .to_owned();
        let address: Address = success["address"]
            .as_str()
            .and_then(|text| Address::parse_checksummed(text, None).ok())
            .context("no `address` with a right checksum")?;
        Ok((
            Wallet {
                key_id,
                address,
                secret,
            },
            timing,
        ))
    }

    async fn post(&self, path: &str, body: &str) -> anyhow::Result<(Response, Duration)> {
        let started = Instant::now();
        let answer = self
            .client
            .post(path, body.to_owned())
            .await
            .with_context(|| format!("POST {path}"))?;
        let took = started.elapsed();
        Ok((answer, took))
    }
}

/// The body of a request for a signature. `payload` is inserted unchanged: it may hold numbers
/// that a JSON library would write differently.
pub(super) fn sign_request(wallet: &Wallet, payload: &str) -> String {
    format!(
        r#"{{"key_id":"{}","secret":"{}","transaction_payload":{payload}}}"#,
        wallet.key_id, wallet.secret.0
    )
}

fn success<T: DeserializeOwned>(answer: &Response) -> anyhow::Result<T> {
    answer.success().context("the API refuses")
}
