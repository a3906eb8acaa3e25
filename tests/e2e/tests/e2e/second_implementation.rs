//! A few hundred random transactions, signed by the wallet and by ethers: the same bytes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use alloy_primitives::utils::format_ether;
use alloy_primitives::{Address, B256, U256, keccak256};
use cloister_e2e::Local;
use serde_json::{Value, json};

const TRANSACTIONS: u32 = 300;

#[tokio::test(flavor = "multi_thread")]
async fn ethers_signs_the_same_bytes() {
    let local = Local::start().await;
    let eth_key = format!("0x{}", const_hex::encode(keccak256("a key for comparison")));
    let key = local.import(&eth_key).await;
    let transactions: Vec<_> = (0..TRANSACTIONS).map(Random::transaction).collect();

    let theirs = ethers(
        &local,
        &eth_key,
        transactions
            .iter()
            .map(|(_, theirs)| theirs.clone())
            .collect(),
    );
    assert_eq!(theirs["address"], *key.address);
    for (index, (payload, _)) in transactions.iter().enumerate() {
        let ours = local.sign(&key, &payload.to_string()).await;
        assert_eq!(
            ours["transaction_signed"], theirs["signed"][index],
            "{payload}"
        );
        let signed = const_hex::decode(ours["transaction_signed"].as_str().unwrap()).unwrap();
        assert_eq!(ours["transaction_hash"], keccak256(signed).to_string());
    }
}

fn ethers(local: &Local, eth_key: &str, transactions: Value) -> Value {
    let modules = local.stack.packages().file("");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ethers.mjs");
    let mut node = Command::new(local.stack.packages().node());
    let node = node
        .arg(script)
        .arg(modules)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut node = node.spawn().unwrap();
    let input = json!({ "eth_key": eth_key, "transactions": transactions }).to_string();
    node.stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Numbers that are the same in every run.
struct Random {
    seed: B256,
}

impl Random {
    /// The same transaction as the wallet takes it and as ethers does.
    fn transaction(index: u32) -> (Value, Value) {
        let mut random = Self {
            seed: keccak256(index.to_be_bytes()),
        };
        let fee = random.below(63);
        let tip = fee & random.below(64);
        let width = random.bits(120);
        let value = random.below(width);
        let data = format!("0x{}", const_hex::encode(random.bytes(200)));
        let list: Vec<_> = (0..random.bits(3))
            .map(|_| {
                let keys: Vec<_> = (0..random.bits(3))
                    .map(|_| random.next().to_string())
                    .collect();
                json!({ "address": random.address().to_checksum(None), "storageKeys": keys })
            })
            .collect();
        let (chain, nonce, gas) = (
            random.below(40) + U256::ONE,
            random.below(32),
            random.below(30),
        );
        let creates = random.bits(8) == 0 && data != "0x";
        let to = if creates {
            Value::Null
        } else {
            json!(random.address().to_checksum(None))
        };
        let number = |number: U256| json!(u64::try_from(number).unwrap());
        let mut ours = json!({
            "type": 2, "chainId": number(chain), "nonce": number(nonce), "gas": number(gas),
            "maxFeePerGas": fee.to_string(), "maxPriorityFeePerGas": format!("{tip:#x}"),
            "to": to, "data": data, "accessList": list,
        });
        // Ether as far as it may be written, wei above.
        if value <= U256::from(10).pow(U256::from(24)) {
            let ether = format_ether(value);
            ours["value"] = json!(ether.trim_end_matches('0').trim_end_matches('.'));
        } else {
            ours["valueWei"] = json!(value.to_string());
        }
        let theirs = json!({
            "type": 2, "chainId": number(chain), "nonce": number(nonce), "gasLimit": number(gas),
            "maxFeePerGas": fee.to_string(), "maxPriorityFeePerGas": tip.to_string(),
            "to": to, "value": value.to_string(), "data": data, "accessList": list,
        });
        (ours, theirs)
    }

    fn next(&mut self) -> B256 {
        self.seed = keccak256(self.seed);
        self.seed
    }

    /// A number of at most `bits` bits.
    fn below(&mut self, bits: usize) -> U256 {
        if bits == 0 {
            U256::ZERO
        } else {
            U256::from_be_bytes(self.next().0) >> (256 - bits)
        }
    }

    /// A small number below `limit`.
    fn bits(&mut self, limit: usize) -> usize {
        usize::from(self.next()[0]) % limit
    }

    fn bytes(&mut self, limit: usize) -> Vec<u8> {
        let length = self.bits(limit);
        (0..length).map(|_| self.next()[0]).collect()
    }

    fn address(&mut self) -> Address {
        Address::from_slice(&self.next()[..20])
    }
}
