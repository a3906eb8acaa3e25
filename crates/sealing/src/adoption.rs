//! Adopts a CMK. The CMK's identity is not configured; it is accepted on its current key policy,
//! attributes and grants, whoever created it.

use std::sync::Arc;

use aws_sdk_kms::Client;
use aws_sdk_kms::operation::describe_key::DescribeKeyError;
use aws_sdk_kms::operation::get_key_policy::GetKeyPolicyError;
use aws_sdk_kms::operation::list_grants::ListGrantsError;
use aws_sdk_kms::types::{
    KeyManagerType, KeyMetadata, KeySpec, KeyState, KeyUsageType, OriginType,
};
use cloister_contract::{AccountId, ErrorChain, Region};
use cloister_key_policy::{CheckedPolicy, Deployment, Expected, Form, PolicyMismatch};
use cloister_protocol::{Code, Rejection};

use crate::arn::key_arn;
use crate::kms::call::{failed, limits};
use crate::kms::error::KmsError;

/// Pages of grants that are read, unless an earlier one has a grant.
const MAX_GRANT_PAGES: usize = 16;

/// A CMK that satisfied the measured settings when this enclave described it in this boot. Only
/// [`adopt`] makes one.
#[derive(Debug)]
pub struct AdoptedKey {
    arn: Arc<str>,
    policy: CheckedPolicy,
}

impl AdoptedKey {
    /// The full ARN: sent with every call, compared in every reply, bound into every row.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    pub(crate) fn shared_arn(&self) -> Arc<str> {
        self.arn.clone()
    }

    /// The policy at adoption: its form, and the images that it admits.
    pub fn policy(&self) -> &CheckedPolicy {
        &self.policy
    }

    /// The policy cannot be replaced any more.
    pub fn is_locked(&self) -> bool {
        self.policy.form == Form::Locked
    }
}

/// Reads the CMK `arn` with DescribeKey, GetKeyPolicy and ListGrants, and adopts it if all of this
/// holds:
///
/// - the ARN is a key's own, of the expected partition, region and account;
/// - KMS made its material (`AWS_KMS`); it is customer-managed, symmetric, for encryption,
///   single-region, in no custom key store, and enabled;
/// - it has no grants, which would bypass the policy;
/// - its policy is exactly a rendering of the measured template, without a previous generator. The
///   open form, where it is accepted, may also admit the next release: a principal that may replace
///   the policy could admit any image.
///
/// # Errors
/// [`AdoptionError`], which names the requirement that is not met.
pub async fn adopt(
    client: &Client,
    arn: &str,
    expected: &Expected<'_>,
) -> Result<AdoptedKey, AdoptionError> {
    check_arn(arn, expected.deployment)?;
    describe(client, arn, expected.deployment).await?;
    let policy = check_policy(client, arn, expected).await?;
    refuse_grants(client, arn).await?;
    Ok(AdoptedKey {
        arn: arn.into(),
        policy,
    })
}

fn check_arn(arn: &str, deployment: &Deployment) -> Result<(), AdoptionError> {
    let parsed = key_arn(arn).ok_or(AdoptionError::NotAKeyArn)?;
    let ours = parsed.partition() == deployment.partition
        && parsed.region().map(Region::as_str) == Some(&deployment.region)
        && parsed.account().map(AccountId::as_str) == Some(&deployment.account);
    if ours {
        Ok(())
    } else {
        Err(AdoptionError::ForeignKey)
    }
}

async fn describe(
    client: &Client,
    arn: &str,
    deployment: &Deployment,
) -> Result<(), AdoptionError> {
    let reply = client
        .describe_key()
        .key_id(arn)
        .customize()
        .config_override(limits::<DescribeKeyError>())
        .send()
        .await
        .map_err(|error| failed("DescribeKey", &error))?;
    check_metadata(reply.key_metadata(), arn, deployment)
}

fn check_metadata(
    key: Option<&KeyMetadata>,
    arn: &str,
    deployment: &Deployment,
) -> Result<(), AdoptionError> {
    let key = key
        .filter(|key| key.arn() == Some(arn))
        .ok_or(KmsError::ReplyRefused("about another key"))?;
    let requirements = [
        (
            "AWSAccountId",
            key.aws_account_id() == Some(&deployment.account),
        ),
        ("Origin", key.origin() == Some(&OriginType::AwsKms)),
        (
            "KeyManager",
            key.key_manager() == Some(&KeyManagerType::Customer),
        ),
        (
            "KeySpec",
            key.key_spec() == Some(&KeySpec::SymmetricDefault),
        ),
        (
            "KeyUsage",
            key.key_usage() == Some(&KeyUsageType::EncryptDecrypt),
        ),
        (
            "MultiRegion",
            key.multi_region() == Some(false) && key.multi_region_configuration().is_none(),
        ),
        (
            "CustomKeyStoreId",
            key.custom_key_store_id().is_none() && key.cloud_hsm_cluster_id().is_none(),
        ),
        ("XksKeyConfiguration", key.xks_key_configuration().is_none()),
        (
            "KeyState",
            key.enabled() && key.key_state() == Some(&KeyState::Enabled),
        ),
    ];
    match requirements.into_iter().find(|(_, holds)| !holds) {
        None => Ok(()),
        Some((attribute, _)) => Err(AdoptionError::Attribute(attribute)),
    }
}

async fn check_policy(
    client: &Client,
    arn: &str,
    expected: &Expected<'_>,
) -> Result<CheckedPolicy, AdoptionError> {
    let reply = client
        .get_key_policy()
        .key_id(arn)
        .policy_name("default")
        .customize()
        .config_override(limits::<GetKeyPolicyError>())
        .send()
        .await
        .map_err(|error| failed("GetKeyPolicy", &error))?;
    let policy = reply
        .policy()
        .ok_or(KmsError::ReplyRefused("without a policy"))?;
    let checked = cloister_key_policy::check(policy, expected).map_err(AdoptionError::Policy)?;
    // It could make data keys, and so rows that this enclave would open. No image is a predecessor
    // yet.
    if checked.measurements.previous_generator.is_some() {
        return Err(AdoptionError::PreviousGenerator);
    }
    Ok(checked)
}

async fn refuse_grants(client: &Client, arn: &str) -> Result<(), AdoptionError> {
    let mut marker = None;
    for _ in 0..MAX_GRANT_PAGES {
        let page = client
            .list_grants()
            .key_id(arn)
            .set_marker(marker)
            .customize()
            .config_override(limits::<ListGrantsError>())
            .send()
            .await
            .map_err(|error| failed("ListGrants", &error))?;
        if !page.grants().is_empty() {
            return Err(AdoptionError::Grants);
        }
        marker = page.next_marker().map(str::to_owned);
        match (page.truncated(), &marker) {
            (false, None) => return Ok(()),
            (true, Some(_)) => {}
            _ => break,
        }
    }
    Err(KmsError::ReplyRefused("with an endless list of grants").into())
}

/// A CMK that was not adopted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptionError {
    /// An alias, a key id, a multi-region key, or not an ARN.
    #[error("not the ARN of a single-region KMS key")]
    NotAKeyArn,
    /// A key of another partition, region or account than the measured ones.
    #[error("the CMK belongs to another partition, region or account")]
    ForeignKey,
    /// An attribute that DescribeKey returned has another value than required.
    #[error("the CMK's {0} is not acceptable")]
    Attribute(&'static str),
    /// The policy is not a rendering of the measured template.
    #[error("the CMK's policy is not acceptable")]
    Policy(#[source] PolicyMismatch),
    /// The policy admits a previous generator, which no measured setting vouches for.
    #[error("the CMK's policy admits a previous generator")]
    PreviousGenerator,
    /// The key has grants, which bypass its policy.
    #[error("the CMK has grants")]
    Grants,
    /// A failed call, or an unacceptable reply.
    #[error("failed to describe the CMK")]
    Kms(#[from] KmsError),
}

impl From<AdoptionError> for Rejection {
    fn from(error: AdoptionError) -> Self {
        match error {
            AdoptionError::Kms(error) => error.into(),
            // With the place of a difference: the policy is not secret, and the deployer has to
            // find it.
            error => Self::new(Code::KeyPolicyRefused, ErrorChain(&error).to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
