//! The Ethereum node of the stack, over JSON-RPC.

use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U256};
use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::data_dir::DataDir;

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
    /// The sender that the chain recovered.
    pub from: Address,
    /// 1 when it succeeded.
    pub status: U256,
    /// Gas used.
    pub gas_used: U256,
    /// Price per gas, in wei.
    pub effective_gas_price: U256,
    /// The created contract.
    pub contract_address: Option<Address>,
    /// Events of its contracts.
    pub logs: Vec<Log>,
}

impl Receipt {
    /// The sender's cost of gas, in wei.
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
    /// If the HTTP client cannot be made.
    pub fn new(url: impl Into<String>) -> anyhow::Result<Self> {
        // reqwest asks for a TLS provider even where it never uses one. Fails only when one is
        // installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(DEADLINE)
            .build()
            .context("failed to make an HTTP client")?;
        Ok(Self {
            url: url.into(),
            http,
        })
    }

    /// The node's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls a method.
    ///
    /// # Errors
    /// If the node cannot be reached, refuses, or its answer is not a `T`.
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

    /// Asks for the chain's id, to see that the node answers.
    pub(crate) async fn answers(&self) -> Result<(), String> {
        let id = self.id().await;
        id.map(drop).map_err(|error| format!("{error:#}"))
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

    /// The balance of an address, in wei.
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

    /// Sets the balance of an address to `wei`, as a development chain can.
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
    /// As [`Self::call`], and if the transaction fails.
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
        // Called first: a mined failure has no reason.
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
    /// As [`Self::call`], if it failed on the chain, or is not mined in time.
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

/// Moves a state file away that anvil could not read, such as one that a full disk left empty.
/// The node then starts a new chain.
///
/// # Errors
/// If the file can be neither read nor moved.
pub(crate) fn set_damaged_state_aside(data: &DataDir) -> anyhow::Result<()> {
    let Some(state) = data.read_bytes(STATE_FILE)? else {
        return Ok(());
    };
    if serde_json::from_slice::<serde_json::Map<String, Value>>(&state)
        .is_ok_and(|state| !state.is_empty())
    {
        return Ok(());
    }
    let (path, aside) = (data.path(STATE_FILE), data.path(DAMAGED_STATE_FILE));
    std::fs::rename(&path, &aside).with_context(|| format!("failed to move {}", path.display()))?;
    eprintln!(
        "{} is damaged: starting a new chain; it is kept as {}",
        path.display(),
        aside.display()
    );
    Ok(())
}

/// File of the data directory in which the node keeps its state.
pub(crate) const STATE_FILE: &str = "chain.json";
const DAMAGED_STATE_FILE: &str = "chain.json.damaged";
const DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_damaged_state_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        set_damaged_state_aside(&data).unwrap();
        let whole = r#"{"block":{"number":"0x1"},"accounts":{}}"#;
        data.write(STATE_FILE, whole).unwrap();
        set_damaged_state_aside(&data).unwrap();
        assert_eq!(data.read(STATE_FILE).unwrap().as_deref(), Some(whole));
        for damaged in [&b""[..], b"{}", b"null", &whole.as_bytes()[..20], b"\xff"] {
            data.write(STATE_FILE, damaged).unwrap();
            set_damaged_state_aside(&data).unwrap();
            assert_eq!(data.read_bytes(STATE_FILE).unwrap(), None);
            let aside = data.read_bytes(DAMAGED_STATE_FILE).unwrap();
            assert_eq!(aside.as_deref(), Some(damaged));
        }
    }
}
