//! The Ethereum node of the stack, over JSON-RPC.

use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U256};
use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A client of one Ethereum node.
#[derive(Clone, Debug)]
pub struct Chain {
    url: String,
    http: reqwest::Client,
}

/// A transaction that was mined.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Its hash.
    pub transaction_hash: B256,
    /// Who the chain says sent it.
    pub from: Address,
    /// 1 when it succeeded.
    pub status: U256,
    /// Gas it took.
    pub gas_used: U256,
    /// Price per gas it paid, in wei.
    pub effective_gas_price: U256,
    /// The contract it created.
    pub contract_address: Option<Address>,
    /// What its contracts logged.
    pub logs: Vec<Log>,
}

impl Receipt {
    /// What the sender paid for gas, in wei.
    pub fn fee(&self) -> U256 {
        self.gas_used * self.effective_gas_price
    }
}

/// One event of a contract.
#[derive(Clone, Debug, Deserialize)]
pub struct Log {
    /// The contract.
    pub address: Address,
    /// Its indexed part, the event's id first.
    pub topics: Vec<B256>,
    /// The rest of it.
    pub data: Bytes,
}

impl Chain {
    /// The node at `url`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(url: impl Into<String>) -> anyhow::Result<Self> {
        // reqwest asks for a TLS provider even where it never uses one. Fails only when one is
        // installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(DEADLINE)
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self {
            url: url.into(),
            http,
        })
    }

    /// Where the node is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls a method.
    ///
    /// # Errors
    /// When the node cannot be reached, refuses, or answers something that is no `T`.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
    ) -> anyhow::Result<T> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            result: Value,
            error: Option<Value>,
        }
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let response = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .body(request.to_string());
        let response = response
            .send()
            .await
            .with_context(|| format!("{method}: the chain does not answer"))?;
        let body = response
            .bytes()
            .await
            .with_context(|| format!("{method}: the chain broke off its answer"))?;
        let answer: Answer = serde_json::from_slice(&body)
            .with_context(|| format!("{method}: not a JSON-RPC answer"))?;
        if let Some(error) = answer.error {
            bail!("{method}: the chain refuses: {error}");
        }
        serde_json::from_value(answer.result)
            .with_context(|| format!("{method}: an answer of another shape"))
    }

    /// The chain's id.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn id(&self) -> anyhow::Result<U256> {
        self.call("eth_chainId", json!([])).await
    }

    /// An account of the node's own, funded and unlocked.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn developer(&self) -> anyhow::Result<Address> {
        let accounts: Vec<Address> = self.call("eth_accounts", json!([])).await?;
        accounts
            .first()
            .copied()
            .context("the chain has no accounts of its own")
    }

    /// What an address holds, in wei.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn balance(&self, address: Address) -> anyhow::Result<U256> {
        self.call("eth_getBalance", json!([address, "latest"]))
            .await
    }

    /// The next nonce of an address.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn nonce(&self, address: Address) -> anyhow::Result<U256> {
        self.call("eth_getTransactionCount", json!([address, "latest"]))
            .await
    }

    /// The code at an address.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn code(&self, address: Address) -> anyhow::Result<Bytes> {
        self.call("eth_getCode", json!([address, "latest"])).await
    }

    /// Gives an address `wei`, as a development chain can.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn fund(&self, address: Address, wei: U256) -> anyhow::Result<()> {
        self.call("anvil_setBalance", json!([address, wei])).await
    }

    /// Calls a contract without a transaction.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn read(&self, contract: Address, data: &[u8]) -> anyhow::Result<Bytes> {
        self.call(
            "eth_call",
            json!([{ "to": contract, "data": const_hex::encode_prefixed(data) }, "latest"]),
        )
        .await
    }

    /// Broadcasts a signed transaction exactly as it is given and returns the hash that the node
    /// reports.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn broadcast(&self, signed: &str) -> anyhow::Result<B256> {
        self.call("eth_sendRawTransaction", json!([signed])).await
    }

    /// Sends a transaction from one of the node's own accounts and waits until it is mined;
    /// `to: None` creates a contract.
    ///
    /// # Errors
    /// As [`Self::call`], and when the transaction fails.
    pub async fn send(
        &self,
        from: Address,
        to: Option<Address>,
        data: &[u8],
    ) -> anyhow::Result<Receipt> {
        let mut transaction =
            json!({ "from": from, "data": const_hex::encode_prefixed(data), "gas": "0x989680" });
        if let Some(to) = to {
            transaction["to"] = json!(to);
        }
        // Tried first: a mined failure does not say its reason.
        self.call::<Value>("eth_call", json!([transaction, "latest"]))
            .await?;
        let hash = self
            .call("eth_sendTransaction", json!([transaction]))
            .await?;
        self.mined(hash).await
    }

    /// Waits until a transaction is mined and checks that it succeeded.
    ///
    /// # Errors
    /// As [`Self::call`], when it failed on the chain, or when it is not mined in time.
    pub async fn mined(&self, hash: B256) -> anyhow::Result<Receipt> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(receipt) = self
                .call::<Option<Receipt>>("eth_getTransactionReceipt", json!([hash]))
                .await?
            {
                ensure!(
                    receipt.status == U256::ONE,
                    "transaction {hash} failed on the chain"
                );
                return Ok(receipt);
            }
            ensure!(Instant::now() < deadline, "transaction {hash} is not mined");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

const DEADLINE: Duration = Duration::from_secs(10);
