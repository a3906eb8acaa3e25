//! The file of callers: who may call, with which credentials.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use cloister_protocol::Redacted;
use serde::Deserialize;

/// Everybody who may call.
#[derive(Clone, Debug)]
pub struct Callers(Arc<[Caller]>);

/// One set of credentials and whom it belongs to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key, 40 characters as AWS makes them.
    pub secret_access_key: Redacted,
    /// The session token of temporary credentials; empty for long-lived ones.
    #[serde(default = "no_token")]
    pub session_token: Redacted,
    /// The ARN of the role or user.
    pub principal_arn: String,
}

fn no_token() -> Redacted {
    Redacted::new(String::new())
}

impl Callers {
    /// Checks `callers`.
    ///
    /// # Errors
    /// [`CallersError`].
    pub fn new(callers: Vec<Caller>) -> Result<Self, CallersError> {
        for (index, caller) in callers.iter().enumerate() {
            if caller.secret_access_key.expose().len() != SECRET_ACCESS_KEY_LEN {
                return Err(CallersError::SecretLength { index });
            }
            if account(&caller.principal_arn).is_none() {
                return Err(CallersError::Arn { index });
            }
            if callers[..index]
                .iter()
                .any(|earlier| earlier.access_key_id == caller.access_key_id)
            {
                return Err(CallersError::Duplicate { index });
            }
        }
        Ok(Self(callers.into()))
    }

    /// Reads a file of the form
    /// `{"principals":[{"access_key_id","secret_access_key","session_token","principal_arn"}]}`.
    ///
    /// # Errors
    /// [`CallersError`].
    pub fn read(path: &Path) -> Result<Self, CallersError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            principals: Vec<Caller>,
        }

        let text = fs::read(path).map_err(CallersError::Read)?;
        // The parser's own message could quote a credential.
        let file: File = serde_json::from_slice(&text).map_err(|error| CallersError::Json {
            line: error.line(),
            column: error.column(),
        })?;
        Self::new(file.principals)
    }

    pub(crate) fn find(&self, access_key_id: &str) -> Option<&Caller> {
        self.0
            .iter()
            .find(|caller| caller.access_key_id == access_key_id)
    }

    pub(crate) fn first(&self) -> Option<&Caller> {
        self.0.first()
    }
}

impl Caller {
    /// The account the caller belongs to.
    pub fn account(&self) -> &str {
        account(&self.principal_arn)
            .expect("callers without an account are refused when they are read")
    }
}

/// The account in an IAM or STS ARN.
fn account(arn: &str) -> Option<&str> {
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    match parts[..] {
        ["arn", _, "iam" | "sts", "", account, _] if account.len() == 12 => account
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(account),
        _ => None,
    }
}

/// Why the callers cannot be used. Quotes nothing of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallersError {
    /// The file.
    #[error("cannot read the file of callers")]
    Read(#[source] io::Error),
    /// Its form.
    #[error("the file of callers is malformed at line {line}, column {column}")]
    Json {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// A secret.
    #[error(
        "the secret access key of caller {index} does not have {SECRET_ACCESS_KEY_LEN} characters"
    )]
    SecretLength {
        /// Which, from 0.
        index: usize,
    },
    /// A principal.
    #[error("the principal of caller {index} is not the ARN of a role or user")]
    Arn {
        /// Which, from 0.
        index: usize,
    },
    /// An access key id.
    #[error("the access key id of caller {index} stands twice")]
    Duplicate {
        /// Which, from 0.
        index: usize,
    },
}

/// Characters of a secret access key.
const SECRET_ACCESS_KEY_LEN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Callers, CallersError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Callers::read(file.path())
    }

    #[test]
    fn files_are_checked_and_never_quoted() {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let caller = |id: &str, secret: &str, arn: &str| {
            format!(
                r#"{{"access_key_id":"{id}","secret_access_key":"{secret}","principal_arn":"{arn}"}}"#
            )
        };
        let file =
            |callers: &[String]| read(&format!(r#"{{"principals":[{}]}}"#, callers.join(",")));
        let role = "arn:aws:iam::111122223333:role/caller";

        let callers = file(&[caller("A", secret, role), caller("B", secret, role)]).unwrap();
        assert_eq!(callers.find("B").unwrap().account(), "111122223333");
        assert!(callers.find("C").is_none());
        assert!(!format!("{callers:?}").contains(secret));

        assert!(matches!(
            file(&[caller("A", "short", role)]),
            Err(CallersError::SecretLength { index: 0 })
        ));
        assert!(matches!(
            file(&[caller("A", secret, role), caller("A", secret, role)]),
            Err(CallersError::Duplicate { index: 1 })
        ));
        for wrong in [
            "",
            "role/caller",
            "arn:aws:s3:::bucket",
            "arn:aws:iam::12345:role/x",
            "arn:aws:iam::11112222333x:role/x",
        ] {
            assert!(
                matches!(
                    file(&[caller("A", secret, wrong)]),
                    Err(CallersError::Arn { index: 0 })
                ),
                "{wrong}"
            );
        }
        let error = read(&format!(
            r#"{{"principals":[{{"access_key_id":"{secret}","x":1}}]}}"#
        ))
        .unwrap_err();
        assert!(matches!(error, CallersError::Json { .. }));
        assert!(!format!("{error:?} {error}").contains(secret));
    }
}
