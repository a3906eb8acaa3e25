//! GetKeyPolicy, PutKeyPolicy, ListGrants.

use cloister_key_policy::{Decision, Policy};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Call;
use crate::error::KmsError;

/// The only name a key policy has.
const POLICY_NAME: &str = "default";
/// Longest key policy, bytes.
const MAX_POLICY_LEN: usize = 32 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct FetchKeyPolicy {
    key_id: String,
    policy_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct PutKeyPolicy {
    key_id: String,
    policy_name: Option<String>,
    policy: String,
    bypass_policy_lockout_safety_check: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct ListGrants {
    key_id: String,
    #[serde(rename = "Limit")]
    _limit: Option<u32>,
}

impl Call<'_> {
    pub(super) fn fetch_key_policy(
        &mut self,
        parameters: &FetchKeyPolicy,
    ) -> Result<Value, KmsError> {
        let key = self.kms.keys.find(&parameters.key_id)?;
        self.authorize(&key, "GetKeyPolicy", [])?;
        expect_default(parameters.policy_name.as_deref())?;
        Ok(json!({ "Policy": key.policy, "PolicyName": POLICY_NAME }))
    }

    pub(super) fn put_key_policy(&mut self, parameters: PutKeyPolicy) -> Result<Value, KmsError> {
        let key = self.kms.keys.find(&parameters.key_id)?;
        self.authorize(
            &key,
            "PutKeyPolicy",
            bypass_condition(parameters.bypass_policy_lockout_safety_check),
        )?;
        expect_default(parameters.policy_name.as_deref())?;
        self.expect_acceptable_policy(
            &parameters.policy,
            parameters.bypass_policy_lockout_safety_check,
        )?;
        self.kms
            .keys
            .change(key.id, |key| key.policy = parameters.policy)?;
        Ok(json!({}))
    }

    /// Always empty: CreateGrant is not performed.
    pub(super) fn list_grants(&mut self, parameters: &ListGrants) -> Result<Value, KmsError> {
        let key = self.kms.keys.find(&parameters.key_id)?;
        self.authorize(&key, "ListGrants", [])?;
        Ok(json!({ "Grants": [], "Truncated": false }))
    }

    /// Refuses a policy that the evaluator does not support, and, without `bypass`, one that its
    /// author could not change again.
    pub(super) fn expect_acceptable_policy(
        &self,
        policy: &str,
        bypass: Option<bool>,
    ) -> Result<(), KmsError> {
        let malformed =
            |message: String| KmsError::new("MalformedPolicyDocumentException", message);
        if policy.len() > MAX_POLICY_LEN {
            return Err(KmsError::new(
                "LimitExceededException",
                "a key policy has at most 32 KiB",
            ));
        }
        let parsed: Policy = policy
            .parse()
            .map_err(|error| malformed(format!("{error}")))?;
        if bypass == Some(true) {
            return Ok(());
        }
        let again = self.request("*".to_owned(), "PutKeyPolicy", bypass_condition(bypass));
        match parsed.evaluate(&again) {
            Ok(Decision::Allow(_)) => Ok(()),
            _ => Err(malformed(
                "The new key policy will not allow you to update the key policy in the future."
                    .into(),
            )),
        }
    }
}

fn bypass_condition(bypass: Option<bool>) -> Option<(String, String)> {
    bypass.map(|bypass| {
        (
            "kms:BypassPolicyLockoutSafetyCheck".to_owned(),
            bypass.to_string(),
        )
    })
}

fn expect_default(name: Option<&str>) -> Result<(), KmsError> {
    match name {
        None | Some(POLICY_NAME) => Ok(()),
        Some(_) => Err(KmsError::new("NotFoundException", "No such policy exists")),
    }
}
