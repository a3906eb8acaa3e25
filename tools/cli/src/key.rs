//! `cloister key`: creation and import of keys.

use alloy_primitives::Address;
use clap::Subcommand;
use cloister_client::CreatedKey;
use serde_json::json;

use crate::answer::{Answer, fields};
use crate::failure::Failure;
use crate::options::{Api, Common};
use crate::secret::{PrivateKeySource, SecretSource};
use crate::{aws, verify};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Generate a key in the enclave, to be used with this secret
    Generate {
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        secret: SecretSource,
    },
    /// Import a private key
    Import {
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        secret: SecretSource,
        #[command(flatten)]
        key: PrivateKeySource,
    },
}

pub(crate) async fn run(command: Command, common: &Common) -> Result<Answer, Failure> {
    match command {
        Command::Generate { api, secret } => {
            let secret = secret.read()?;
            let created = aws::client(&api, common)
                .await?
                .generate_key(&secret)
                .await?;
            Ok(answer(&created))
        }
        Command::Import { api, secret, key } => {
            if secret.is_standard_input() && key.is_standard_input() {
                return Err(Failure::input(
                    "secret and private key cannot both come from standard input",
                ));
            }
            let (secret, key) = (secret.read()?, key.read()?);
            let expected = verify::address_of(&key);
            let created = aws::client(&api, common)
                .await?
                .set_key(&secret, &key)
                .await?;
            same_address(expected, created.address)?;
            Ok(answer(&created))
        }
    }
}

fn same_address(expected: Address, found: Address) -> Result<(), Failure> {
    let problem = || {
        Failure::Wrong(format!(
            "the key's address is {expected}, the response has {found}"
        ))
    };
    if expected == found {
        Ok(())
    } else {
        Err(problem())
    }
}

fn answer(created: &CreatedKey) -> Answer {
    let (key_id, address) = (created.key_id.to_string(), created.address.to_string());
    Answer::new(
        fields([("key id", &key_id), ("address", &address)]),
        &json!({ "key_id": key_id, "address": address }),
    )
}
