//! Clients of a running stack.

use anyhow::Context as _;
use cloister_key_policy::Measurements;

use super::Stack;
use crate::administrator;
use crate::identity::{Identity, REGION};
use crate::part::Part;

impl Stack {
    /// A client of the API with the caller's credentials.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn client(&self) -> anyhow::Result<cloister_client::Client> {
        let caller = &self.identities.caller;
        let token = Some(&caller.session_token[..]);
        let credentials = cloister_client::Credentials::new(
            &caller.access_key_id,
            &caller.secret_access_key,
            token,
        );
        cloister_client::Client::new(&self.endpoint(), REGION, credentials, None)
            .context("failed to make an API client")
    }

    /// A client of the KMS with the credentials of `identity`, such as the administrator's.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn kms(&self, identity: &Identity) -> anyhow::Result<aws_sdk_kms::Client> {
        administrator::kms(&self.https(Part::Kms)?, identity, self.root_certificate())
    }

    /// A client of the DynamoDB with the credentials of `identity`, such as the administrator's.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn dynamodb(&self, identity: &Identity) -> anyhow::Result<aws_sdk_dynamodb::Client> {
        administrator::dynamodb(&self.https(Part::Table)?, identity, self.root_certificate())
    }

    /// Replaces the CMK's policy, as an update does, with one that admits `measurements`; the open
    /// form.
    ///
    /// # Errors
    /// If KMS refuses it.
    pub async fn admit(&self, measurements: &Measurements) -> anyhow::Result<()> {
        let client = self.kms(&self.identities.administrator)?;
        administrator::ensure_cmk(&client, &self.location.data, measurements)
            .await
            .map(drop)
    }
}
