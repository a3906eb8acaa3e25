//! Account, region and roles of the stack, and random credentials made once per data directory: those
//! of its principals, and the front door's key.

use std::fmt;

use anyhow::Context as _;
use cloister_contract::Service;
use cloister_protocol::Redacted;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data_dir::DataDir;

/// The account of the stack: one that AWS reserves for documentation.
pub const ACCOUNT: &str = "111122223333";
/// The region of the stack.
pub const REGION: &str = "eu-central-1";
/// The table's name.
pub const TABLE: &str = "cloister-keys";

/// The full ARN of the table.
pub fn table_arn() -> String {
    format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{TABLE}")
}

/// The ARN of a role of the stack.
pub fn role_arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

/// Credentials of one principal, and its role.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: String,
    /// The session token that has to come with every request.
    pub session_token: String,
    /// The ARN of the role.
    pub principal_arn: String,
}

impl Identity {
    fn random(role: &str) -> anyhow::Result<Self> {
        Self::random_with_arn(role_arn(role))
    }

    /// New credentials of a role.
    pub(crate) fn random_with_arn(principal_arn: String) -> anyhow::Result<Self> {
        let mut bytes = [0; 76];
        getrandom::fill(&mut bytes).context("the operating system has no randomness")?;
        let letters = |bytes: &[u8], alphabet: &[u8]| -> String {
            bytes
                .iter()
                .map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()]))
                .collect()
        };
        Ok(Self {
            access_key_id: format!(
                "ASIA{}",
                letters(&bytes[..16], b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
            ),
            secret_access_key: letters(
                &bytes[16..56],
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
            ),
            session_token: const_hex::encode(&bytes[56..]),
            principal_arn,
        })
    }

    /// The variables from which the standard AWS chain reads these credentials.
    pub fn variables(&self) -> [(&'static str, &str); 3] {
        [
            ("AWS_ACCESS_KEY_ID", &self.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_access_key),
            ("AWS_SESSION_TOKEN", &self.session_token),
        ]
    }

    /// The credentials as the AWS SDK takes them.
    pub fn credentials(&self) -> aws_credential_types::Credentials {
        let token = Some(self.session_token.clone());
        aws_credential_types::Credentials::new(
            &self.access_key_id,
            &self.secret_access_key,
            token,
            None,
            "cloister-local",
        )
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("principal_arn", &self.principal_arn)
            .finish_non_exhaustive()
    }
}

/// Every principal of the stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identities {
    /// Makes the CMK and writes its policy while that is in the open form.
    pub administrator: Identity,
    /// The role of signer pod and signer enclave.
    pub signer: Identity,
    /// The role of key-generator pod and key-generator enclave.
    pub key_generator: Identity,
    /// Calls the API.
    pub caller: Identity,
}

impl Identities {
    /// Loads the identities of this data directory; made at random the first time.
    ///
    /// # Errors
    /// If their file cannot be read, parsed or written.
    pub fn load(data: &DataDir) -> anyhow::Result<Self> {
        if let Some(text) = data.read(FILE)? {
            return serde_json::from_str(&text)
                .with_context(|| format!("{} is damaged", data.path(FILE).display()));
        }
        let identities = Self {
            administrator: Identity::random(ADMINISTRATOR_ROLE)?,
            signer: Identity::random(SIGNER_ROLE)?,
            key_generator: Identity::random(KEY_GENERATOR_ROLE)?,
            caller: Identity::random(CALLER_ROLE)?,
        };
        data.write(FILE, serde_json::to_vec_pretty(&identities)?)?;
        Ok(identities)
    }

    /// The credentials of a service's pod and enclave.
    pub(crate) fn of(&self, service: Service) -> &Identity {
        match service {
            Service::Signer => &self.signer,
            Service::KeyGenerator => &self.key_generator,
        }
    }

    /// The principals of KMS and table.
    pub(crate) fn principals(&self) -> Vec<Value> {
        let roles = [&self.administrator, &self.signer, &self.key_generator];
        roles.map(|identity| json!(identity)).into()
    }

    /// The principals file of the API.
    pub fn callers(&self) -> String {
        json!({ "principals": [self.caller] }).to_string()
    }
}

/// The front door's key; made at random the first time. Pods read the same file.
pub(crate) fn front_door_key(data: &DataDir) -> anyhow::Result<Redacted> {
    if let Some(text) = data.read(FRONT_DOOR_KEY_FILE)? {
        return Ok(Redacted::new(text));
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the operating system has no randomness")?;
    let text = const_hex::encode(bytes);
    data.write(FRONT_DOOR_KEY_FILE, &text)?;
    Ok(Redacted::new(text))
}

/// File of the front door's key.
pub(crate) const FRONT_DOOR_KEY_FILE: &str = "front-door-key";
/// Role of the administrator.
pub(crate) const ADMINISTRATOR_ROLE: &str = "cloister-administrator";
/// Role of the signer.
pub(crate) const SIGNER_ROLE: &str = "cloister-signer";
/// Role of the key generator.
pub(crate) const KEY_GENERATOR_ROLE: &str = "cloister-key-generator";
/// Role that may schedule the deletion of the CMK; unused in the stack.
pub(crate) const RETIREMENT_ROLE: &str = "cloister-retirement";
const CALLER_ROLE: &str = "cloister-caller";
const FILE: &str = "identities.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_stay_the_same_and_are_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        let first = Identities::load(&data).unwrap();
        let second = Identities::load(&data).unwrap();
        assert_eq!(
            first.caller.secret_access_key,
            second.caller.secret_access_key
        );
        assert_ne!(
            first.caller.secret_access_key,
            first.signer.secret_access_key
        );
        assert!(!format!("{first:?}").contains(&first.caller.secret_access_key));
    }
}
