//! Shared by the end-to-end tests: a local stack, keys on it, and parsed answers.

pub mod enclave;
pub mod guest;
pub mod log_scan;
pub mod memory;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use cloister_client::{Client, Response};
use cloister_local::part::Part;
use cloister_local::progress::Progress;
use cloister_local::stack::{Emulation, Enclaves, Options, Stack};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A payload that nothing is wrong with.
pub const TRANSFER: &str = r#"{"value":0.01,"to":"0xa5D3241A1591061F2a4bB69CA0215F66520E67cf","nonce":0,"type":2,"chainId":4,"gas":100000,"maxFeePerGas":100000000000,"maxPriorityFeePerGas":3000000000}"#;

/// A stack in its own directory; both are removed when this is dropped.
#[derive(Debug)]
pub struct Local {
    /// The running stack.
    pub stack: Stack,
    /// A client with the caller's credentials.
    pub client: Client,
    directory: TempDir,
}

impl Local {
    /// Starts a stack without a chain.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts it with a `RUST_LOG` filter for its programs.
    pub async fn start_with(log: Option<&str>) -> Self {
        Self::start_in(directory(), false, log, Enclaves::Processes, None).await
    }

    /// Starts a stack with a chain whose enclaves are images in an emulator.
    pub async fn start_emulated(emulation: Emulation) -> Self {
        Self::start_in(directory(), true, None, Enclaves::Emulated(emulation), None).await
    }

    /// The same without a log filter, and with credentials of the pods that live for `lifetime`.
    pub async fn start_with_credentials(lifetime: Duration) -> Self {
        let enclaves = Enclaves::Processes;
        Self::start_in(directory(), false, None, enclaves, Some(lifetime)).await
    }

    async fn start_in(
        directory: TempDir,
        chain: bool,
        log: Option<&str>,
        enclaves: Enclaves,
        credentials_lifetime: Option<Duration>,
    ) -> Self {
        let log = log.map(str::to_owned);
        let data_dir = directory.path().to_owned();
        let options = Options {
            data_dir,
            chain,
            log,
            enclaves,
            front_door: None,
            port: None,
            credentials_lifetime,
        };
        let stack = Stack::start(options, &Progress::silent())
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        let client = stack.client().expect("a client");
        Self {
            stack,
            client,
            directory,
        }
    }

    /// Stops everything and starts it again on the same data.
    pub async fn restart(self) -> Self {
        let Self {
            stack,
            client,
            directory,
        } = self;
        drop((stack, client));
        Self::start_in(directory, false, None, Enclaves::Processes, None).await
    }

    /// A new key with a new secret.
    pub async fn generate(&self) -> Key {
        let secret = random_secret();
        let answer = self
            .post("/generate_key", &json!({ "secret": secret }).to_string())
            .await;
        Key::new(&answer, secret)
    }

    /// An imported key with a new secret.
    pub async fn import(&self, eth_key: &str) -> Key {
        let secret = random_secret();
        let answer = self
            .post(
                "/set_key",
                &json!({ "secret": secret, "eth_key": eth_key }).to_string(),
            )
            .await;
        Key::new(&answer, secret)
    }

    /// Signs with the route form; the answer must be a success.
    pub async fn sign(&self, key: &Key, payload: &str) -> Value {
        let answer = self
            .post("/sign_transaction", &key.sign_body(payload))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        json_body(&answer)
    }

    /// Signs `count` times at once; every answer must be a success.
    pub async fn sign_at_once(&self, key: &Key, payload: &str, count: usize) -> Vec<Value> {
        let requests: Vec<_> = (0..count)
            .map(|_| {
                let (client, body) = (self.client.clone(), key.sign_body(payload));
                tokio::spawn(async move {
                    client
                        .post("/sign_transaction", body)
                        .await
                        .expect("an answer")
                })
            })
            .collect();
        let mut signed = Vec::with_capacity(count);
        for answer in requests {
            let answer = answer.await.expect("a task that does not panic");
            assert_eq!(answer.status, 200, "{}", answer.text());
            signed.push(json_body(&answer));
        }
        signed
    }

    /// A signed request with whatever answer it gets.
    pub async fn post(&self, path: &str, body: &str) -> Response {
        self.client
            .post(path, body.to_owned())
            .await
            .expect("an answer")
    }

    /// Every row of the table, by key id.
    pub async fn rows(&self) -> BTreeMap<String, HashMap<String, AttributeValue>> {
        let scan = self
            .table()
            .scan()
            .table_name(cloister_local::identity::table_arn())
            .consistent_read(true);
        let items = scan.send().await.expect("a scan").items.unwrap_or_default();
        items
            .into_iter()
            .map(|item| (item["key_id"].as_s().expect("a string").clone(), item))
            .collect()
    }

    /// The table, with the administrator's credentials.
    pub fn table(&self) -> aws_sdk_dynamodb::Client {
        self.stack
            .dynamodb(&self.stack.identities().administrator)
            .expect("a client of the table")
    }

    /// Makes the next `count` calls of `operation` at `part` fail with AWS's exception `error`.
    pub async fn fault(&self, part: Part, operation: &str, error: &str, count: u32) {
        let root = reqwest::Certificate::from_pem(self.stack.root_certificate().as_bytes())
            .expect("a certificate");
        let client = reqwest::Client::builder()
            .tls_certs_only([root])
            .build()
            .expect("a client");
        let url = format!(
            "{}/_local/faults",
            self.stack.https(part).expect("an HTTPS address")
        );
        let body = json!({ "operation": operation, "error": error, "count": count }).to_string();
        let answer = client
            .post(url)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await;
        assert!(answer.expect("an answer").status().is_success());
    }

    /// Checks that a line of a part's log has this `event`.
    pub fn logged(&self, part: Part, event: &str) -> bool {
        let log = self.log(part);
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.any(|line| line["event"] == event)
    }

    /// The log of a part so far.
    pub fn log(&self, part: Part) -> String {
        std::fs::read_to_string(self.stack.data().logs().join(format!("{part}.log")))
            .expect("a log")
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A key of the wallet.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name.
    pub id: String,
    /// Its address, EIP-55.
    pub address: String,
    /// The secret that belongs to it.
    pub secret: String,
}

impl Key {
    /// The key of a successful answer.
    ///
    /// # Panics
    /// If the answer is another one.
    pub fn new(answer: &Response, secret: String) -> Self {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = json_body(answer);
        let text = |name: &str| body[name].as_str().expect("a string").to_owned();
        Self {
            id: text("key_id"),
            address: text("address"),
            secret,
        }
    }

    /// The body of a request for a signature.
    pub fn sign_body(&self, payload: &str) -> String {
        format!(
            r#"{{"key_id":"{}","secret":"{}","transaction_payload":{payload}}}"#,
            self.id, self.secret
        )
    }
}

/// An error answer, taken apart after its shape has been checked.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status, which is also `enclave_status`.
    pub status: u16,
    /// The stable code.
    pub code: String,
    /// The member at fault, or nothing.
    pub field: String,
    /// True if the same request may succeed later.
    pub retryable: bool,
}

impl Refused {
    /// Checks that `answer` is an error in the contract's form.
    ///
    /// # Panics
    /// When it is not.
    pub fn new(answer: &Response) -> Self {
        let refused = Self::in_body(&json_body(answer));
        assert_eq!(refused.status, answer.status, "{}", answer.text());
        refused
    }

    /// Checks that `body` is an error in the contract's form.
    ///
    /// # Panics
    /// When it is not.
    pub fn in_body(body: &Value) -> Self {
        let result = &body["enclave_result"];
        assert!(
            result["error"]
                .as_str()
                .is_some_and(|sentence| !sentence.is_empty()),
            "{body}"
        );
        assert!(
            body["request_id"].as_str().is_some_and(|id| !id.is_empty()),
            "{body}"
        );
        Self {
            status: body["enclave_status"]
                .as_u64()
                .and_then(|status| u16::try_from(status).ok())
                .expect("a status"),
            code: result["code"].as_str().expect("a code").to_owned(),
            field: result["field"].as_str().unwrap_or_default().to_owned(),
            retryable: result["retryable"]
                .as_bool()
                .expect("whether it is retryable"),
        }
    }
}

/// The body of an answer.
///
/// # Panics
/// When it is not JSON.
pub fn json_body(answer: &Response) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("not JSON: {}", answer.text()))
}

/// 64 hex digits.
///
/// # Panics
/// When the operating system has no randomness.
pub fn random_secret() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("randomness");
    const_hex::encode(bytes)
}

/// Asks `condition` until it holds.
///
/// # Panics
/// After half a minute.
pub async fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) {
    within(Duration::from_secs(30), what, condition).await;
}

/// Asks `condition` until it holds.
///
/// # Panics
/// After `timeout`.
pub async fn within(timeout: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
