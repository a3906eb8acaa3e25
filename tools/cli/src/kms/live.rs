//! The current state of a key in KMS.

use aws_config::SdkConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::types::{
    GrantListEntry, KeyManagerType, KeyMetadata, KeySpec, KeyState, KeyUsageType, OriginType,
};
use cloister_key_policy::Deployment;

use crate::aws;
use crate::failure::Failure;
use crate::options::Common;

/// A key with its policy and grants.
#[derive(Debug)]
pub(super) struct LiveKey {
    pub(super) arn: String,
    pub(super) policy: String,
    /// Properties that an enclave refuses.
    pub(super) problems: Vec<String>,
    /// One line each: grants bypass the policy.
    pub(super) grants: Vec<String>,
}

/// A client of KMS, or of a compatible `endpoint`.
pub(super) async fn client(common: &Common, endpoint: Option<&str>) -> Result<Client, Failure> {
    let configuration = aws::configuration(common).await?;
    aws::credentials(&configuration).await?;
    if configuration.region().is_none() {
        return Err(Failure::input(
            "no region: give --region, or set AWS_REGION or the profile's region",
        ));
    }
    Ok(of(&configuration, endpoint))
}

/// A client with this configuration.
pub(super) fn of(configuration: &SdkConfig, endpoint: Option<&str>) -> Client {
    let mut config = aws_sdk_kms::config::Builder::from(configuration);
    if let Some(endpoint) = endpoint {
        config.set_endpoint_url(Some(endpoint.to_owned()));
    }
    Client::from_conf(config.build())
}

impl LiveKey {
    /// Reads the key `arn`, which should belong to `deployment`.
    pub(super) async fn read(
        client: &Client,
        arn: &str,
        deployment: &Deployment,
    ) -> Result<Self, Failure> {
        let described = client
            .describe_key()
            .key_id(arn)
            .send()
            .await
            .map_err(Failure::aws("DescribeKey"))?;
        let metadata = described
            .key_metadata
            .ok_or_else(|| Failure::Wrong("KMS returned no key".to_owned()))?;
        let policy = client
            .get_key_policy()
            .key_id(arn)
            .policy_name("default")
            .send()
            .await;
        let policy = policy.map_err(Failure::aws("GetKeyPolicy"))?.policy;
        let mut grants = Vec::new();
        let mut marker = None;
        loop {
            let page = client
                .list_grants()
                .key_id(arn)
                .set_marker(marker)
                .send()
                .await;
            let page = page.map_err(Failure::aws("ListGrants"))?;
            grants.extend(page.grants().iter().map(grant));
            marker = page.next_marker;
            if marker.is_none() {
                break;
            }
        }
        Ok(Self {
            arn: metadata.arn().unwrap_or(arn).to_owned(),
            policy: policy.ok_or_else(|| Failure::Wrong("KMS returned no policy".to_owned()))?,
            problems: problems(&metadata, deployment),
            grants,
        })
    }
}

/// Checks the attributes that an enclave checks before it adopts a key.
fn problems(key: &KeyMetadata, deployment: &Deployment) -> Vec<String> {
    let Deployment {
        partition,
        region,
        account,
        ..
    } = deployment;
    let own = format!("arn:{partition}:kms:{region}:{account}:key/");
    let requirements = [
        (
            "it belongs to another partition, region or account",
            key.arn().is_some_and(|arn| arn.starts_with(&own)),
        ),
        (
            "its material does not come from KMS",
            key.origin() == Some(&OriginType::AwsKms),
        ),
        (
            "it is managed by AWS, not by the account",
            key.key_manager() == Some(&KeyManagerType::Customer),
        ),
        (
            "it is not symmetric",
            key.key_spec() == Some(&KeySpec::SymmetricDefault),
        ),
        (
            "it is not for encryption",
            key.key_usage() == Some(&KeyUsageType::EncryptDecrypt),
        ),
        (
            "it is a multi-region key: a replica has another policy",
            key.multi_region() == Some(false),
        ),
        (
            "it is in a custom key store",
            key.custom_key_store_id().is_none() && key.xks_key_configuration().is_none(),
        ),
    ];
    let state = match key.key_state() {
        Some(KeyState::Enabled) => None,
        Some(state) => Some(format!("its state is {state}")),
        None => Some("its state is unknown".to_owned()),
    };
    let failed = requirements.into_iter().filter(|(_, holds)| !holds);
    failed
        .map(|(problem, _)| problem.to_owned())
        .chain(state)
        .collect()
}

fn grant(grant: &GrantListEntry) -> String {
    let operations: Vec<_> = grant
        .operations()
        .iter()
        .map(|operation| operation.as_str())
        .collect();
    let to = grant.grantee_principal().unwrap_or("an unknown principal");
    format!(
        "{to} may {} by a grant, unless the policy denies it",
        operations.join(", ")
    )
}
