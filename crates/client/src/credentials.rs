//! The caller's AWS credentials.

use std::fmt;

/// An access key with its secret, and a session token if they are temporary. `Debug` shows only the
/// access key id.
#[derive(Clone)]
pub struct Credentials(aws_credential_types::Credentials);

impl Credentials {
    /// Credentials without expiry. An empty session token counts as absent.
    pub fn new(access_key_id: &str, secret_access_key: &str, session_token: Option<&str>) -> Self {
        let token = session_token
            .filter(|token| !token.is_empty())
            .map(str::to_owned);
        Self(aws_credential_types::Credentials::new(
            access_key_id,
            secret_access_key,
            token,
            None,
            "cloister-client",
        ))
    }

    pub(crate) fn identity(&self) -> aws_smithy_runtime_api::client::identity::Identity {
        self.0.clone().into()
    }
}

/// Credentials of the AWS SDK's chain.
impl From<aws_credential_types::Credentials> for Credentials {
    fn from(credentials: aws_credential_types::Credentials) -> Self {
        Self(credentials)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.0.access_key_id())
            .finish_non_exhaustive()
    }
}
