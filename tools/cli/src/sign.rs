//! `cloister sign`.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use alloy_primitives::{Address, B256};
use clap::{Args, Subcommand};
use cloister_protocol::payload::SigningPayload;
use cloister_protocol::{CallerSecret, KeyId};
use serde_json::json;

use crate::answer::{Answer, fields};
use crate::arguments::{Api, Common};
use crate::failure::Failure;
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
    /// Sign the hash of an ERC-4337 user operation, as it stands
    UserOpHash {
        /// 32 bytes of hex
        #[arg(value_parser = hash)]
        hash: B256,
        #[command(flatten)]
        with: With,
    },
}

/// Which key signs, and how it is asked to.
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
    /// Send the secret itself instead of a MAC made with it, which is good for this payload and a
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
    // The enclave's own reading: what it would refuse is refused here, and what comes back is
    // compared with it.
    let asked = match SigningPayload::parse(payload.as_bytes()) {
        Ok(SigningPayload::Transaction(transaction)) => transaction,
        Ok(SigningPayload::UserOpHash(_)) => {
            return Err(Failure::input(
                "this is a UserOp hash: use `cloister sign user-op-hash`",
            ));
        }
        Err(rejection) => return Err(Failure::Input(format!("{}: {rejection}", file.display()))),
    };
    let secret = with.secret.read()?;
    let client = aws::client(&with.api, common).await?;
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
    Ok(Answer::new(
        fields([
            ("signed", &signed.transaction_signed),
            ("hash", &hash),
            ("signer", &signer),
        ]),
        &json!({ "transaction_signed": signed.transaction_signed, "transaction_hash": hash, "signer": signer }),
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
