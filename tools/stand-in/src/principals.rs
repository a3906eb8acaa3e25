//! The file of principals: credentials and the role or user they belong to.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use cloister_contract::{AccountId, Arn};
use serde::Deserialize;

use crate::StandInError;
use crate::error::InvalidPrincipal;

/// All principals that may call.
#[derive(Clone, Debug)]
pub struct Principals(Arc<[Principal]>);

/// One set of credentials and its principal.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key, 40 characters.
    pub secret_access_key: String,
    /// Session token of temporary credentials; empty for long-term ones.
    #[serde(default)]
    pub session_token: String,
    /// ARN of the role or user.
    pub principal_arn: String,
    /// End of temporary credentials, in seconds since 1970.
    #[serde(default)]
    pub expires_at: Option<i64>,
}

impl Principals {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// If it cannot be read, is malformed, or names an invalid principal.
    pub fn read(path: &Path) -> Result<Self, StandInError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            principals: Vec<Principal>,
        }

        let text = fs::read(path).map_err(|source| StandInError::File {
            path: path.to_owned(),
            source,
        })?;
        // The parser's own message could quote a credential.
        let file: File = serde_json::from_slice(&text).map_err(|error| StandInError::Json {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })?;
        for (index, principal) in file.principals.iter().enumerate() {
            check(principal, &file.principals[..index]).map_err(|source| {
                StandInError::Principal {
                    path: path.to_owned(),
                    index,
                    source,
                }
            })?;
        }
        Ok(Self(file.principals.into()))
    }

    #[cfg(test)]
    pub(crate) fn new(principals: impl Into<Arc<[Principal]>>) -> Self {
        Self(principals.into())
    }

    pub(crate) fn find(&self, access_key_id: &str) -> Option<&Principal> {
        self.0
            .iter()
            .find(|principal| principal.access_key_id == access_key_id)
    }
}

impl Principal {
    /// Account of the principal.
    pub fn account(&self) -> AccountId {
        account(&self.principal_arn).expect("the ARN was checked when the file was read")
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("principal_arn", &self.principal_arn)
            .finish_non_exhaustive()
    }
}

fn check(principal: &Principal, earlier: &[Principal]) -> Result<(), InvalidPrincipal> {
    if principal.secret_access_key.len() != SECRET_ACCESS_KEY_LEN {
        return Err(InvalidPrincipal::SecretLength);
    }
    if account(&principal.principal_arn).is_none() {
        return Err(InvalidPrincipal::Arn);
    }
    if earlier
        .iter()
        .any(|earlier| earlier.access_key_id == principal.access_key_id)
    {
        return Err(InvalidPrincipal::Duplicate);
    }
    Ok(())
}

/// The account of a role or user.
fn account(arn: &str) -> Option<AccountId> {
    let arn: Arn = arn.parse().ok()?;
    let principal = ["iam", "sts"].contains(&arn.service()) && arn.region().is_none();
    arn.account().filter(|_| principal).cloned()
}

const SECRET_ACCESS_KEY_LEN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Principals, StandInError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Principals::read(file.path())
    }

    #[test]
    fn files_are_checked_and_never_quoted() {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let principal = |id: &str, secret: &str, arn: &str| {
            format!(
                r#"{{"access_key_id":"{id}","secret_access_key":"{secret}","principal_arn":"{arn}"}}"#
            )
        };
        let file = |all: &[String]| read(&format!(r#"{{"principals":[{}]}}"#, all.join(",")));
        let invalid = |all: &[String]| match file(all) {
            Err(StandInError::Principal { index, source, .. }) => (index, source),
            other => panic!("{other:?}"),
        };
        let role = "arn:aws:iam::111122223333:role/caller";

        let principals = file(&[principal("A", secret, role), principal("B", secret, role)]);
        let principals = principals.unwrap();
        assert_eq!(
            principals.find("B").unwrap().account().as_str(),
            "111122223333"
        );
        assert!(principals.find("C").is_none());
        assert!(!format!("{principals:?}").contains(secret));

        assert_eq!(
            invalid(&[principal("A", "short", role)]),
            (0, InvalidPrincipal::SecretLength)
        );
        assert_eq!(
            invalid(&[principal("A", secret, role), principal("A", secret, role)]),
            (1, InvalidPrincipal::Duplicate)
        );
        for arn in [
            "",
            "role/caller",
            "arn:aws:s3:::bucket",
            "arn:aws:iam::12345:role/x",
            "arn:aws:iam::11112222333x:role/x",
        ] {
            assert_eq!(
                invalid(&[principal("A", secret, arn)]),
                (0, InvalidPrincipal::Arn),
                "{arn}"
            );
        }
        let error = read(&format!(
            r#"{{"principals":[{{"access_key_id":"{secret}","x":1}}]}}"#
        ))
        .unwrap_err();
        assert!(matches!(error, StandInError::Json { line: 1, .. }));
        assert!(!format!("{error:?} {error}").contains(secret));
    }
}
