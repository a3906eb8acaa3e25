//! `cloister sign`: transactions and UserOp hashes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use alloy_primitives::utils::format_ether;
use alloy_primitives::{Address, B256, U256};
use clap::{Args, Subcommand};
use cloister_protocol::payload::{Eip1559, SigningPayload};
use cloister_protocol::{CallerSecret, KeyId};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::answer::{Answer, fields};
use crate::failure::Failure;
use crate::options::{Api, Common};
use crate::secret::{SecretSource, is_standard_input};
use crate::{aws, verify};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign an EIP-1559 transaction
    Transaction {
        /// JSON file with the transaction, as docs/api.md describes it; - for standard input
        payload: PathBuf,
        #[command(flatten)]
        with: With,
    },
    /// Sign the hash of an ERC-4337 user operation, without prefix or further hashing
    UserOpHash {
        /// 32 bytes of hex
        #[arg(value_parser = hash)]
        hash: B256,
        #[command(flatten)]
        with: With,
    },
}

/// The signing key and its authentication.
#[derive(Args, Debug)]
pub(crate) struct With {
    #[command(flatten)]
    api: Api,
    /// The wallet key's id
    #[arg(long, value_name = "UUID")]
    key_id: KeyId,
    /// The key's address: any other signer is an error
    #[arg(long, value_parser = address)]
    address: Option<Address>,
    #[command(flatten)]
    secret: SecretSource,
    /// Send the secret itself instead of a MAC made with it, which is valid for this payload for one
    /// minute
    #[arg(long)]
    send_secret: bool,
}

pub(crate) async fn run(command: Command, common: &Common) -> Result<Answer, Failure> {
    match command {
        Command::Transaction { payload, with } => transaction(&payload, &with, common).await,
        Command::UserOpHash { hash, with } => user_op_hash(hash, &with, common).await,
    }
}

async fn transaction(file: &Path, with: &With, common: &Common) -> Result<Answer, Failure> {
    if is_standard_input(file) && with.secret.is_standard_input() {
        return Err(Failure::input(
            "transaction and secret cannot both come from standard input",
        ));
    }
    let payload = read(file)?;
    // Parsed as the enclave parses it: an invalid payload is not sent, and the signed transaction is
    // compared with it.
    let asked = match SigningPayload::parse(&payload) {
        Ok(SigningPayload::Transaction(transaction)) => transaction,
        Ok(SigningPayload::UserOpHash(_)) => {
            return Err(Failure::input(
                "this is a UserOp hash: use `cloister sign user-op-hash`",
            ));
        }
        Err(rejection) => return Err(Failure::Input(format!("{}: {rejection}", file.display()))),
    };
    let payload = in_wei(&payload, asked.value)?;
    let secret = with.secret.read()?;
    let client = aws::client(&with.api, common).await?;
    if !common.json {
        eprintln!("signing {}", summary(&asked));
    }
    let signed = match with.send_secret {
        true => {
            client
                .sign_transaction(with.key_id, &secret, &payload)
                .await?
        }
        false => {
            client
                .sign_transaction_authenticated(with.key_id, &secret, &payload, SystemTime::now())
                .await?
        }
    };
    let signer = verify::transaction(&signed, &asked)?;
    with.check(signer)?;
    let (hash, signer) = (signed.transaction_hash.to_string(), signer.to_string());
    let (ether, wei) = (ether(asked.value), asked.value.to_string());
    Ok(Answer::new(
        fields([
            ("signed", &signed.transaction_signed),
            ("hash", &hash),
            ("signer", &signer),
            ("amount", &amount(asked.value)),
        ]),
        &json!({
            "transaction_signed": signed.transaction_signed, "transaction_hash": hash, "signer": signer,
            "value_ether": ether, "value_wei": wei,
        }),
    ))
}

async fn user_op_hash(hash: B256, with: &With, common: &Common) -> Result<Answer, Failure> {
    let secret: CallerSecret = with.secret.read()?;
    let client = aws::client(&with.api, common).await?;
    let signature = match with.send_secret {
        true => client.sign_user_op(with.key_id, &secret, hash).await?,
        false => {
            client
                .sign_user_op_authenticated(with.key_id, &secret, hash, SystemTime::now())
                .await?
        }
    };
    let signer = verify::message(&signature, &hash)?;
    with.check(signer)?;
    let signer = signer.to_string();
    Ok(Answer::new(
        fields([("signature", &signature), ("signer", &signer)]),
        &json!({ "signature": signature, "signer": signer }),
    ))
}

/// `payload` with its amount named in wei, so that no hop can read it in another unit.
fn in_wei(payload: &str, wei: U256) -> Result<String, Failure> {
    let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(payload)
        .map_err(|error| Failure::Input(format!("the transaction is not JSON: {error}")))?;
    if members.remove("value").is_some() {
        let wei = to_raw_value(&wei.to_string()).expect("a string has a JSON form");
        members.insert("valueWei".to_owned(), wei);
    }
    Ok(serde_json::to_string(&members).expect("strings and raw JSON have a JSON form"))
}

/// The effect of a transaction in one line.
fn summary(transaction: &Eip1559) -> String {
    let to = match transaction.to {
        Some(to) => format!("to {to}"),
        None => "to a new contract".to_owned(),
    };
    format!(
        "{} {to} on chain {}",
        amount(transaction.value),
        transaction.chain_id
    )
}

/// An amount in both units: `0.01 ether (10000000000000000 wei)`.
fn amount(wei: U256) -> String {
    format!("{} ether ({wei} wei)", ether(wei))
}

/// An amount in ether without trailing zeros.
fn ether(wei: U256) -> String {
    format_ether(wei)
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

impl With {
    fn check(&self, signer: Address) -> Result<(), Failure> {
        match self.address {
            Some(address) if address != signer => Err(Failure::Wrong(format!(
                "it is signed by {signer}, not by {address}"
            ))),
            _ => Ok(()),
        }
    }
}

fn hash(text: &str) -> Result<B256, &'static str> {
    text.parse()
        .map_err(|_| "a UserOp hash is 32 bytes of hex: 64 digits, with or without 0x")
}

fn address(text: &str) -> Result<Address, &'static str> {
    text.parse()
        .map_err(|_| "an address is 20 bytes of hex: 40 digits, with or without 0x")
}

fn read(file: &Path) -> Result<String, Failure> {
    let text = match is_standard_input(file) {
        true => {
            let mut text = String::new();
            io::stdin().lock().read_to_string(&mut text).map(|_| text)
        }
        false => fs::read_to_string(file),
    };
    text.map_err(|error| Failure::Input(format!("{} cannot be read: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_in_both_units() {
        for (wei, expected) in [
            ("0", "0 ether (0 wei)"),
            ("1", "0.000000000000000001 ether (1 wei)"),
            ("10000000000000000", "0.01 ether (10000000000000000 wei)"),
            (
                "20000000000000000000",
                "20 ether (20000000000000000000 wei)",
            ),
        ] {
            assert_eq!(amount(wei.parse().unwrap()), expected);
        }
    }

    #[test]
    fn amounts_are_sent_in_wei() {
        let common = r#""to":"0xa5D3241A1591061F2a4bB69CA0215F66520E67cf","nonce":0,"type":2,"chainId":4,"gas":21000,"maxFeePerGas":18446744073709551617,"maxPriorityFeePerGas":0"#;
        for value in [
            r#""value": 0.010,"#,
            r#""value":"0.01","#,
            r#""value":"0x2386f26fc10000","#,
            r#""valueWei":10000000000000000,"#,
        ] {
            let given = format!("{{{value}{common}}}");
            let parse = |text: &str| match SigningPayload::parse(text).unwrap() {
                SigningPayload::Transaction(transaction) => transaction,
                SigningPayload::UserOpHash(_) => unreachable!(),
            };
            let asked = parse(&given);
            let sent = in_wei(&given, asked.value).unwrap();
            assert!(
                sent.contains(r#""valueWei":"#) && !sent.contains(r#""value":"#),
                "{sent}"
            );
            assert_eq!(parse(&sent), asked);
        }
        let none = format!("{{{common}}}");
        assert!(!in_wei(&none, U256::ZERO).unwrap().contains("valueWei"));
    }
}
