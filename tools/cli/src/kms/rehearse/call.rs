//! One cell of the permission table as a call of KMS, and its outcome.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeyPairSpec, DataKeySpec, GrantOperation, Tag};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use cloister_contract::ErrorChain;

use super::super::table::Action;

/// The key under test.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) arn: String,
    /// The policy on it: a caller that may replace it puts the same policy.
    pub(super) policy: String,
    /// By purpose.
    pub(super) ciphertexts: BTreeMap<Option<String>, Blob>,
    /// The grantee of a grant.
    pub(super) grantee: String,
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Allowed,
    DeniedByPolicy {
        explicitly: bool,
    },
    /// By an identity policy, a boundary or the organisation, which is no evidence about the key's
    /// policy.
    DeniedElsewhere(String),
    Unclear(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::DeniedByPolicy { explicitly: true } => f.write_str("denied explicitly"),
            Self::DeniedByPolicy { explicitly: false } => f.write_str("denied"),
            Self::DeniedElsewhere(message) => {
                write!(f, "denied, but not by the key's policy: {message}")
            }
            Self::Unclear(message) => write!(f, "unclear: {message}"),
        }
    }
}

/// Returns whether [`perform`] has a call for the action.
pub(super) fn can_be_tried(action: &Action) -> bool {
    // KMS might refuse these for another reason first: the key's kind, or a grant that does not
    // exist.
    !matches!(
        action.action.as_str(),
        "kms:DeriveSharedSecret"
            | "kms:RevokeGrant"
            | "kms:ReplicateKey"
            | "kms:UpdatePrimaryRegion"
            | "kms:ImportKeyMaterial"
            | "kms:DeleteImportedKeyMaterial"
    )
}

pub(super) fn context(action: &Action) -> Option<HashMap<String, String>> {
    action
        .purpose
        .clone()
        .map(|purpose| HashMap::from([("purpose".to_owned(), purpose)]))
}

/// Tries it, as a dry run where KMS has one; nothing for what cannot be tried.
pub(super) async fn perform(client: &Client, target: &Target, action: &Action) -> Option<Outcome> {
    if !can_be_tried(action) {
        return None;
    }
    let Target {
        arn,
        policy,
        ciphertexts,
        grantee,
    } = target;
    let ciphertext = ciphertexts
        .get(&action.purpose)
        .cloned()
        .unwrap_or_else(|| Blob::new([]));
    let context = context(action);
    Some(match action.action.as_str() {
        "kms:Decrypt" => {
            let call = client
                .decrypt()
                .key_id(arn)
                .ciphertext_blob(ciphertext)
                .set_encryption_context(context);
            outcome(call.dry_run(true).send().await)
        }
        "kms:GenerateDataKey" => {
            let call = client
                .generate_data_key()
                .key_id(arn)
                .key_spec(DataKeySpec::Aes256);
            outcome(
                call.set_encryption_context(context)
                    .dry_run(true)
                    .send()
                    .await,
            )
        }
        "kms:GenerateDataKeyWithoutPlaintext" => {
            let call = client
                .generate_data_key_without_plaintext()
                .key_id(arn)
                .key_spec(DataKeySpec::Aes256);
            outcome(
                call.set_encryption_context(context)
                    .dry_run(true)
                    .send()
                    .await,
            )
        }
        "kms:GenerateDataKeyPair" => {
            let call = client
                .generate_data_key_pair()
                .key_id(arn)
                .key_pair_spec(DataKeyPairSpec::EccNistP256);
            outcome(
                call.set_encryption_context(context)
                    .dry_run(true)
                    .send()
                    .await,
            )
        }
        "kms:Encrypt" => {
            let call = client
                .encrypt()
                .key_id(arn)
                .plaintext(Blob::new(*b"nothing"));
            outcome(
                call.set_encryption_context(context)
                    .dry_run(true)
                    .send()
                    .await,
            )
        }
        // One call asks for both.
        "kms:ReEncryptFrom" | "kms:ReEncryptTo" => {
            let call = client
                .re_encrypt()
                .source_key_id(arn)
                .destination_key_id(arn)
                .ciphertext_blob(ciphertext);
            let call = call
                .set_source_encryption_context(context.clone())
                .set_destination_encryption_context(context);
            outcome(call.dry_run(true).send().await)
        }
        "kms:PutKeyPolicy" => {
            let call = client
                .put_key_policy()
                .key_id(arn)
                .policy_name("default")
                .policy(policy);
            outcome(call.bypass_policy_lockout_safety_check(true).send().await)
        }
        "kms:CreateGrant" => {
            let call = client
                .create_grant()
                .key_id(arn)
                .grantee_principal(grantee)
                .operations(GrantOperation::Decrypt);
            outcome(call.dry_run(true).send().await)
        }
        "kms:TagResource" => {
            let tag = Tag::builder()
                .tag_key("rehearsal")
                .tag_value("x")
                .build()
                .ok()?;
            outcome(client.tag_resource().key_id(arn).tags(tag).send().await)
        }
        "kms:UpdateKeyDescription" => outcome(
            client
                .update_key_description()
                .key_id(arn)
                .description("tried")
                .send()
                .await,
        ),
        "kms:DisableKeyRotation" => outcome(client.disable_key_rotation().key_id(arn).send().await),
        "kms:RotateKeyOnDemand" => outcome(client.rotate_key_on_demand().key_id(arn).send().await),
        "kms:DisableKey" => outcome(client.disable_key().key_id(arn).send().await),
        "kms:ScheduleKeyDeletion" => {
            let call = client
                .schedule_key_deletion()
                .key_id(arn)
                .set_pending_window_in_days(action.window);
            outcome(call.send().await)
        }
        "kms:CancelKeyDeletion" => outcome(client.cancel_key_deletion().key_id(arn).send().await),
        "kms:EnableKey" => outcome(client.enable_key().key_id(arn).send().await),
        "kms:DescribeKey" => outcome(client.describe_key().key_id(arn).send().await),
        "kms:GetKeyPolicy" => outcome(
            client
                .get_key_policy()
                .key_id(arn)
                .policy_name("default")
                .send()
                .await,
        ),
        "kms:ListGrants" => outcome(client.list_grants().key_id(arn).send().await),
        "kms:ListKeyPolicies" => outcome(client.list_key_policies().key_id(arn).send().await),
        "kms:GetKeyRotationStatus" => {
            outcome(client.get_key_rotation_status().key_id(arn).send().await)
        }
        "kms:ListResourceTags" => outcome(client.list_resource_tags().key_id(arn).send().await),
        "kms:EnableKeyRotation" => outcome(client.enable_key_rotation().key_id(arn).send().await),
        unknown => Outcome::Unclear(format!("{unknown} has no call here")),
    })
}

fn outcome<T, E, R>(result: Result<T, SdkError<E, R>>) -> Outcome
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: fmt::Debug + 'static,
{
    let Err(error) = result else {
        return Outcome::Allowed;
    };
    let message = error.message().unwrap_or_default();
    match error.code() {
        // The policy let it through; what comes after it is not the question.
        Some(
            "DryRunOperationException"
            | "KMSInvalidStateException"
            | "UnsupportedOperationException",
        ) => Outcome::Allowed,
        // <https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>
        Some("AccessDeniedException") if message.contains("resource-based policy") => {
            Outcome::DeniedByPolicy {
                explicitly: message.contains("explicit deny"),
            }
        }
        Some("AccessDeniedException") => Outcome::DeniedElsewhere(message.to_owned()),
        Some(code) => Outcome::Unclear(format!("{code}: {message}")),
        None => Outcome::Unclear(ErrorChain(&error).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::table::Table;
    use super::*;

    #[tokio::test]
    async fn every_action_of_the_table_has_a_call_or_is_known_to_have_none() {
        let config = aws_sdk_kms::Config::builder()
            .behavior_version(aws_sdk_kms::config::BehaviorVersion::latest());
        let client = Client::from_conf(config.build());
        let target = Target {
            arn: "arn".to_owned(),
            policy: String::new(),
            ciphertexts: BTreeMap::new(),
            grantee: String::new(),
        };
        for action in &Table::load().actions {
            let outcome = perform(&client, &target, action).await;
            let unknown = matches!(&outcome, Some(Outcome::Unclear(problem)) if problem.contains("no call here"));
            assert!(!unknown, "{}", action.name);
        }
    }
}
