//! The file of principals: who may call, with which credentials.

use std::{fs, io, path::Path};

use serde::Deserialize;

/// Everybody who may call. Holds secret access keys: no `Debug`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Principals {
    principals: Vec<Principal>,
}

/// One set of credentials and the role (or user) it belongs to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Principal {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    /// Empty for long-term credentials.
    #[serde(default)]
    pub(crate) session_token: String,
    pub(crate) principal_arn: String,
}

impl Principals {
    pub(crate) fn read(path: &Path) -> Result<Self, PrincipalsError> {
        let text = fs::read(path).map_err(PrincipalsError::Read)?;
        // The parser's own message could quote a credential.
        let read: Self = serde_json::from_slice(&text).map_err(|error| PrincipalsError::Json {
            line: error.line(),
            column: error.column(),
        })?;
        for (index, principal) in read.principals.iter().enumerate() {
            if principal.secret_access_key.len() != 40 {
                return Err(PrincipalsError::SecretLength(index));
            }
            if account(&principal.principal_arn).is_none() {
                return Err(PrincipalsError::Arn(index));
            }
        }
        Ok(read)
    }

    pub(crate) fn find(&self, access_key_id: &str) -> Option<&Principal> {
        self.principals
            .iter()
            .find(|principal| principal.access_key_id == access_key_id)
    }
}

/// The account of an IAM principal's ARN.
pub(crate) fn account(principal_arn: &str) -> Option<&str> {
    let parts: Vec<_> = principal_arn.splitn(6, ':').collect();
    match parts[..] {
        ["arn", _, "iam", "", account, _]
            if account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Some(account)
        }
        _ => None,
    }
}

/// Why the file of principals cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrincipalsError {
    /// The file cannot be read.
    #[error("cannot read the file of principals")]
    Read(#[source] io::Error),
    /// The file is not what it should be.
    #[error("the file of principals is not valid at line {line}, column {column}")]
    Json {
        /// Counted from one.
        line: usize,
        /// Counted from one.
        column: usize,
    },
    /// A secret access key has another length than AWS's.
    #[error("principal {0}: a secret access key has 40 characters")]
    SecretLength(usize),
    /// A principal's ARN is not a role's or a user's.
    #[error("principal {0}: the ARN is not arn:PARTITION:iam::ACCOUNT:…")]
    Arn(usize),
}
