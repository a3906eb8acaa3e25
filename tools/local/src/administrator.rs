//! Sets up the account with an administrator's credentials: the table, the CMK and its policy.

use anyhow::Context as _;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_kms::config::{BehaviorVersion, Region};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_types::SdkConfig;
use cloister_key_policy::{Form, Measurements, render};
use serde_json::Value;

use crate::data_dir::DataDir;
use crate::identity::{Identity, REGION, TABLE};
use crate::settings::deployment;

/// A client of the stack's KMS with the credentials of `identity`.
pub(crate) fn kms(
    endpoint: &str,
    identity: &Identity,
    root: &str,
) -> anyhow::Result<aws_sdk_kms::Client> {
    sdk_config(endpoint, identity, root).map(|config| aws_sdk_kms::Client::new(&config))
}

/// A client of the stack's DynamoDB with the credentials of `identity`.
pub(crate) fn dynamodb(
    endpoint: &str,
    identity: &Identity,
    root: &str,
) -> anyhow::Result<aws_sdk_dynamodb::Client> {
    sdk_config(endpoint, identity, root).map(|config| aws_sdk_dynamodb::Client::new(&config))
}

/// Creates the table unless it exists.
pub(crate) async fn ensure_table(client: &aws_sdk_dynamodb::Client) -> anyhow::Result<()> {
    match client.describe_table().table_name(TABLE).send().await {
        Ok(_) => return Ok(()),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_resource_not_found_exception()) => {}
        Err(error) => return Err(error).context("failed to describe the table"),
    }
    let attribute = AttributeDefinition::builder()
        .attribute_name("key_id")
        .attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder()
        .attribute_name("key_id")
        .key_type(KeyType::Hash);
    let create = client
        .create_table()
        .table_name(TABLE)
        .attribute_definitions(attribute.build().context("malformed attribute")?)
        .key_schema(key.build().context("malformed key")?)
        .billing_mode(BillingMode::PayPerRequest);
    create.send().await.context("failed to create the table")?;
    Ok(())
}

/// The ARN of the stack's CMK, whose policy admits exactly `measurements`. Created the first time;
/// afterwards its policy is replaced whenever an enclave measures differently, which an
/// administrator can do while the policy is in its open form.
pub(crate) async fn ensure_cmk(
    client: &aws_sdk_kms::Client,
    data: &DataDir,
    measurements: &Measurements,
) -> anyhow::Result<String> {
    let policy = render(&deployment(), measurements, Form::Open)
        .context("failed to render the key policy")?;
    let Some(arn) = data.read(CMK_ARN)? else {
        let created = client
            .create_key()
            .policy(&policy)
            .send()
            .await
            .context("failed to create the CMK")?;
        let arn = created
            .key_metadata()
            .and_then(|key| key.arn())
            .context("the CMK has no ARN")?
            .to_owned();
        data.write(CMK_ARN, &arn)?;
        return Ok(arn);
    };
    let current = client
        .get_key_policy()
        .key_id(&arn)
        .policy_name("default")
        .send()
        .await;
    let current = current.with_context(|| {
        format!("failed to read the policy of {arn}: was its directory deleted?")
    })?;
    if parse(current.policy().unwrap_or_default())? != parse(&policy)? {
        let put = client
            .put_key_policy()
            .key_id(&arn)
            .policy_name("default")
            .policy(&policy);
        put.send()
            .await
            .context("failed to replace the CMK's policy")?;
    }
    Ok(arn)
}

fn parse(policy: &str) -> anyhow::Result<Value> {
    serde_json::from_str(policy).context("a key policy is not JSON")
}

/// Trusts `root` (PEM) and no other certificate.
fn sdk_config(endpoint: &str, identity: &Identity, root: &str) -> anyhow::Result<SdkConfig> {
    let trust = TrustStore::empty()
        .with_native_roots(false)
        .with_pem_certificate(root.as_bytes());
    let tls = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .context("failed to use the stack's root certificate")?;
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(tls)
        .build_https();
    Ok(SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(identity.credentials()))
        .http_client(http)
        .build())
}

const CMK_ARN: &str = "cmk-arn";
