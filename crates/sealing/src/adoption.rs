//! Adopting a CMK: it is not configured, it is looked at. Anybody may have made it; what counts is
//! what it is now.

use std::sync::Arc;

use aws_sdk_kms::Client;
use aws_sdk_kms::types::{
    KeyManagerType, KeyMetadata, KeySpec, KeyState, KeyUsageType, OriginType,
};
use cloister_key_policy::{CheckedPolicy, Deployment, Expected, Form, PolicyMismatch};
use cloister_protocol::{Code, Rejection};

use crate::arn::KeyArn;
use crate::kms::{KmsError, limits, log};

/// Pages of grants that are followed. The first one with a grant in it ends the matter.
const MAX_GRANT_PAGES: usize = 16;

/// A CMK that this enclave has looked at in this boot and found to be what its measured settings
/// demand. Only [`adopt`] makes one.
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

    /// The policy as it was found: its form, and the images it admits.
    pub fn policy(&self) -> &CheckedPolicy {
        &self.policy
    }

    /// Whether nobody can replace the policy any more.
    pub fn is_locked(&self) -> bool {
        self.policy.form == Form::Locked
    }
}

/// Looks at the CMK `arn` with DescribeKey, GetKeyPolicy and ListGrants, and adopts it if all of
/// this holds:
///
/// - the ARN is a key's own, of the expected partition, region and account;
/// - KMS made its material (`AWS_KMS`); it is customer-managed, symmetric, for encryption,
///   single-region, in no custom key store, and enabled;
/// - it has no grants, which would bypass the policy;
/// - its policy is exactly a rendering of the measured template, without a previous generator. The
///   open form, where it is accepted, may admit the next release, too: whoever may replace the
///   policy could admit any image.
///
/// # Errors
/// [`AdoptionError`], which says what does not hold.
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
    let parsed = KeyArn::parse(arn).ok_or(AdoptionError::NotAKeyArn)?;
    let expected = KeyArn {
        partition: &deployment.partition,
        region: &deployment.region,
        account: &deployment.account,
    };
    if parsed == expected {
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
        .config_override(limits())
        .send()
        .await
        .map_err(|error| log("DescribeKey", &error))?;
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
        .config_override(limits())
        .send()
        .await
        .map_err(|error| log("GetKeyPolicy", &error))?;
    let policy = reply
        .policy()
        .ok_or(KmsError::ReplyRefused("without a policy"))?;
    let checked = cloister_key_policy::check(policy, expected).map_err(AdoptionError::Policy)?;
    // It may make data keys, hence rows that this enclave would open; and no image can be a
    // predecessor yet.
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
            .config_override(limits())
            .send()
            .await
            .map_err(|error| log("ListGrants", &error))?;
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

/// Why a CMK was not adopted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptionError {
    /// An alias, a key id, a multi-region key, or no ARN at all.
    #[error("not the ARN of a single-region KMS key")]
    NotAKeyArn,
    /// A key of another partition, region or account than the measured ones.
    #[error("the key belongs to another partition, region or account")]
    ForeignKey,
    /// The named attribute of DescribeKey is not what it has to be.
    #[error("the key's {0} is not acceptable")]
    Attribute(&'static str),
    /// The policy is not a rendering of the measured template.
    #[error("the key's policy is not acceptable")]
    Policy(#[source] PolicyMismatch),
    /// The policy admits a previous generator, which nothing measured vouches for.
    #[error("the key's policy admits a previous generator")]
    PreviousGenerator,
    /// The key has grants, which bypass its policy.
    #[error("the key has grants")]
    Grants,
    /// KMS did not answer, or not acceptably.
    #[error("the key could not be looked at")]
    Kms(#[from] KmsError),
}

impl From<AdoptionError> for Rejection {
    fn from(error: AdoptionError) -> Self {
        let problem = match error {
            AdoptionError::Kms(error) => return error.into(),
            AdoptionError::NotAKeyArn => "not the ARN of a single-region KMS key".into(),
            AdoptionError::ForeignKey => {
                "the CMK belongs to another partition, region or account".into()
            }
            AdoptionError::Attribute(attribute) => {
                format!("the CMK's {attribute} is not acceptable").into()
            }
            // Where it differs is told: the policy is no secret, and whoever deploys has to find
            // the difference.
            AdoptionError::Policy(mismatch) => {
                format!("the CMK's policy is not acceptable: {mismatch}").into()
            }
            AdoptionError::PreviousGenerator => {
                "the CMK's policy admits a previous generator".into()
            }
            AdoptionError::Grants => "the CMK has grants".into(),
        };
        Self {
            code: Code::KeyPolicyRefused,
            error: problem,
            field: None,
        }
    }
}

#[cfg(test)]
mod tests;
