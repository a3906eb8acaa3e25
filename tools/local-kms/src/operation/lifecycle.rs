//! CreateKey, DescribeKey, ListKeys, ScheduleKeyDeletion, CancelKeyDeletion, EnableKey, DisableKey.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Call;
use crate::{
    error::KmsError,
    keys::{Deletion, Key, Origin},
};

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
/// Default window of ScheduleKeyDeletion, days.
const DEFAULT_WINDOW: u8 = 30;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct CreateKey {
    policy: Option<String>,
    #[serde(default)]
    description: String,
    key_usage: Option<String>,
    key_spec: Option<String>,
    customer_master_key_spec: Option<String>,
    origin: Option<Origin>,
    #[serde(default)]
    multi_region: bool,
    bypass_policy_lockout_safety_check: Option<bool>,
}

/// Parameters of the operations that only name a key.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct NamedKey {
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct ScheduleKeyDeletion {
    key_id: String,
    pending_window_in_days: Option<u8>,
}

impl Call<'_> {
    pub(super) fn create_key(&mut self, parameters: CreateKey) -> Result<Value, KmsError> {
        self.expect_own_account()?;
        let symmetric =
            |spec: &Option<String>| matches!(spec.as_deref(), None | Some("SYMMETRIC_DEFAULT"));
        if !matches!(
            parameters.key_usage.as_deref(),
            None | Some("ENCRYPT_DECRYPT")
        ) || !symmetric(&parameters.key_spec)
            || !symmetric(&parameters.customer_master_key_spec)
        {
            return Err(KmsError::new(
                "UnsupportedOperationException",
                "the local KMS has symmetric encryption keys only",
            ));
        }
        let policy = parameters.policy.unwrap_or_else(|| self.default_policy());
        self.expect_acceptable_policy(&policy, parameters.bypass_policy_lockout_safety_check)?;

        let origin = parameters.origin.unwrap_or(Origin::AwsKms);
        let key = Key::generate(
            self.now.as_secs(),
            parameters.description,
            origin,
            parameters.multi_region,
            policy,
        )?;
        let key = self.kms.keys.insert(key)?;
        self.audit.key = Some(self.kms.keys.arn(&key));
        Ok(json!({ "KeyMetadata": self.metadata(&key) }))
    }

    pub(super) fn describe_key(&mut self, parameters: &NamedKey) -> Result<Value, KmsError> {
        let key = self.kms.keys.find(&parameters.key_id)?;
        self.authorize(&key, "DescribeKey", [])?;
        Ok(json!({ "KeyMetadata": self.metadata(&key) }))
    }

    pub(super) fn list_keys(&mut self) -> Result<Value, KmsError> {
        self.expect_own_account()?;
        let listed = |key: &Key| json!({ "KeyId": key.id, "KeyArn": self.kms.keys.arn(key) });
        let keys: Vec<_> = self.kms.keys.all().iter().map(|key| listed(key)).collect();
        Ok(json!({ "Keys": keys, "Truncated": false }))
    }

    pub(super) fn schedule_key_deletion(
        &mut self,
        parameters: &ScheduleKeyDeletion,
    ) -> Result<Value, KmsError> {
        let key = self.kms.keys.find(&parameters.key_id)?;
        let named = parameters.pending_window_in_days;
        let condition = named.map(|days| {
            (
                "kms:ScheduleKeyDeletionPendingWindowInDays".to_owned(),
                days.to_string(),
            )
        });
        self.authorize(&key, "ScheduleKeyDeletion", condition)?;

        let window_days = named.unwrap_or(DEFAULT_WINDOW);
        if !(7..=30).contains(&window_days) {
            return Err(KmsError::validation("PendingWindowInDays is 7 to 30"));
        }
        if key.deletion.is_some() {
            return Err(KmsError::new(
                "KMSInvalidStateException",
                "the key is pending deletion already",
            ));
        }
        let date = self.now.as_secs() + u64::from(window_days) * SECONDS_PER_DAY;
        let key = self.kms.keys.change(key.id, |key| {
            key.deletion = Some(Deletion { date, window_days })
        })?;
        Ok(json!({
            "KeyId": self.kms.keys.arn(&key),
            "KeyState": key.state(),
            "DeletionDate": date,
            "PendingWindowInDays": window_days,
        }))
    }

    pub(super) fn cancel_key_deletion(&mut self, parameters: &NamedKey) -> Result<Value, KmsError> {
        let key = self.kms.keys.find(&parameters.key_id)?;
        self.authorize(&key, "CancelKeyDeletion", [])?;
        if key.deletion.is_none() {
            return Err(KmsError::new(
                "KMSInvalidStateException",
                "the key is not pending deletion",
            ));
        }
        let key = self.kms.keys.change(key.id, |key| {
            key.deletion = None;
            key.disabled = true;
        })?;
        Ok(json!({ "KeyId": self.kms.keys.arn(&key) }))
    }

    pub(super) fn set_disabled(
        &mut self,
        parameters: &NamedKey,
        operation: &str,
        disabled: bool,
    ) -> Result<Value, KmsError> {
        let key = self.kms.keys.find(&parameters.key_id)?;
        self.authorize(&key, operation, [])?;
        if let state @ ("PendingDeletion" | "PendingImport") = key.state() {
            return Err(KmsError::new(
                "KMSInvalidStateException",
                format!("the key is {state}"),
            ));
        }
        self.kms
            .keys
            .change(key.id, |key| key.disabled = disabled)?;
        Ok(json!({}))
    }

    /// Operations that concern no key are the account's own.
    fn expect_own_account(&self) -> Result<(), KmsError> {
        if self.caller.account == self.kms.account {
            return Ok(());
        }
        Err(KmsError::new(
            "AccessDeniedException",
            "the keys of this KMS belong to another account",
        ))
    }

    /// KMS's policy for a key that is created without one.
    fn default_policy(&self) -> String {
        json!({
            "Version": "2012-10-17",
            "Id": "key-default-1",
            "Statement": [{
                "Sid": "Enable IAM User Permissions",
                "Effect": "Allow",
                "Principal": { "AWS": format!("arn:{}:iam::{}:root", self.kms.partition, self.kms.account) },
                "Action": "kms:*",
                "Resource": "*",
            }],
        })
        .to_string()
    }

    fn metadata(&self, key: &Key) -> Value {
        let mut metadata = json!({
            "AWSAccountId": self.kms.account,
            "Arn": self.kms.keys.arn(key),
            "CreationDate": key.created,
            "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
            "Description": key.description,
            "Enabled": key.state() == "Enabled",
            "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
            "KeyId": key.id,
            "KeyManager": "CUSTOMER",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "KeyState": key.state(),
            "KeyUsage": "ENCRYPT_DECRYPT",
            "MultiRegion": key.multi_region,
            "Origin": key.origin,
        });
        if let Some(Deletion { date, .. }) = key.deletion {
            metadata["DeletionDate"] = date.into();
        }
        metadata
    }
}
