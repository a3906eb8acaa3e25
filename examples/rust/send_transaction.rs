//! Sends ether from a key in Cloister:
//! `cargo run -p cloister-client --example send_transaction`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::env;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, U256, keccak256};
use anyhow::{Context as _, bail};
use cloister_client::{Client, Credentials};
use cloister_protocol::{CallerSecret, KeyId};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

const RECIPIENT: &str = "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // With `aws-config`, the credentials of its chain convert into `Credentials`.
    let token = env::var("AWS_SESSION_TOKEN").ok();
    let credentials = Credentials::new(
        &variable("AWS_ACCESS_KEY_ID")?,
        &variable("AWS_SECRET_ACCESS_KEY")?,
        token.as_deref(),
    );
    let cloister = Client::new(
        &variable("CLOISTER_ENDPOINT")?,
        &variable("AWS_REGION")?,
        credentials,
        None,
    )?;
    let chain = Chain {
        url: variable("CLOISTER_CHAIN_RPC")?,
        http: reqwest::Client::new(),
    };

    let wallet = Wallet::named_or_new(&cloister).await?;
    println!("address       {}", wallet.address);
    chain.fund(wallet.address).await?;

    let id: U256 = chain.call("eth_chainId", json!([])).await?;
    let nonce: U256 = chain
        .call("eth_getTransactionCount", json!([wallet.address, "latest"]))
        .await?;
    let price: U256 = chain.call("eth_gasPrice", json!([])).await?;
    let payload = json!({
        "type": 2, "chainId": id, "nonce": nonce, "from": wallet.address, "to": RECIPIENT,
        // 0.01 ether. A `value` that is a JSON number or decimal text would be ether, not wei.
        "valueWei": "10000000000000000",
        "gas": 21_000, "maxFeePerGas": U256::from(2) * price, "maxPriorityFeePerGas": 0,
    });
    let signed = cloister
        .sign_transaction(wallet.key_id, &wallet.secret, &payload.to_string())
        .await?;
    let hash: B256 = chain
        .call("eth_sendRawTransaction", json!([signed.transaction_signed]))
        .await?;
    let block = chain.mined(hash).await?;
    println!("transaction   {hash} in block {block}");

    let user_op_hash = keccak256("in place of the result of EntryPoint.getUserOpHash");
    let signature = cloister
        .sign_user_op(wallet.key_id, &wallet.secret, user_op_hash)
        .await?;
    println!("UserOp hash   signed: {signature}");
    Ok(())
}

/// A wallet key and its secret.
struct Wallet {
    key_id: KeyId,
    address: Address,
    secret: CallerSecret,
}

impl Wallet {
    /// The key that the environment names, or a new one.
    async fn named_or_new(cloister: &Client) -> anyhow::Result<Self> {
        let named = ["CLOISTER_KEY_ID", "CLOISTER_ADDRESS", "CLOISTER_SECRET"]
            .map(|name| env::var(name).ok());
        if let [Some(key_id), Some(address), Some(secret)] = named {
            let secret = CallerSecret::new(Zeroizing::new(secret))?;
            return Ok(Self {
                key_id: key_id.parse()?,
                address: address.parse()?,
                secret,
            });
        }
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(random.as_mut_slice())?;
        let secret = CallerSecret::new(Zeroizing::new(const_hex::encode(random.as_slice())))?;
        let key = cloister.generate_key(&secret).await?;
        Ok(Self {
            key_id: key.key_id,
            address: key.address,
            secret,
        })
    }
}

/// An Ethereum node.
struct Chain {
    url: String,
    http: reqwest::Client,
}

impl Chain {
    /// Gives the address ether on a development chain.
    async fn fund(&self, address: Address) -> anyhow::Result<()> {
        let balance: U256 = self
            .call("eth_getBalance", json!([address, "latest"]))
            .await?;
        if balance.is_zero() {
            let one_ether = U256::from(10).pow(U256::from(18));
            self.call::<Value>("anvil_setBalance", json!([address, one_ether]))
                .await
                .with_context(|| {
                    let names = "CLOISTER_KEY_ID, CLOISTER_ADDRESS and CLOISTER_SECRET";
                    format!(
                        "{address} has no ether on this chain: name a key that has with {names}"
                    )
                })?;
        }
        Ok(())
    }

    /// The block that a transaction succeeded in.
    async fn mined(&self, hash: B256) -> anyhow::Result<U256> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let receipt: Value = self
                .call("eth_getTransactionReceipt", json!([hash]))
                .await?;
            match receipt["status"].as_str() {
                Some("0x1") => return Ok(serde_json::from_value(receipt["blockNumber"].clone())?),
                Some(_) => bail!("{hash} failed on the chain"),
                None if Instant::now() > deadline => bail!("{hash} is not mined"),
                None => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> anyhow::Result<T> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .body(request.to_string());
        let mut answer: Value = serde_json::from_slice(&request.send().await?.bytes().await?)?;
        match answer.get("error") {
            Some(error) => bail!("{method}: {error}"),
            None => Ok(serde_json::from_value(answer["result"].take())?),
        }
    }
}

fn variable(name: &str) -> anyhow::Result<String> {
    env::var(name).with_context(|| {
        format!("set {name}: `cargo local up` writes it to .cloister/local/endpoint.env")
    })
}
