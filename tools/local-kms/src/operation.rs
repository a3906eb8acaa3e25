//! The operations of the API. Each asks the key's policy first.

mod cryptography;
mod lifecycle;
mod policies;

use std::{collections::BTreeMap, time::Duration};

use cloister_key_policy::{Decision, KmsRequest, evaluate};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    authenticate::Caller,
    error::KmsError,
    keys::{Key, Keys},
    recipient::Trust,
};

/// State of the KMS.
#[derive(Debug)]
pub(crate) struct Kms {
    pub(crate) partition: String,
    pub(crate) account: String,
    pub(crate) trust: Trust,
    pub(crate) keys: Keys,
}

/// One authenticated call.
pub(crate) struct Call<'a> {
    kms: &'a Kms,
    caller: &'a Caller,
    /// Since 1970.
    now: Duration,
    /// Its part of the log line.
    pub(crate) audit: Audit,
}

/// The decision of a call.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    pub(crate) key: Option<String>,
    /// `allow`, `implicit deny`, `explicit deny`, `undecidable`; nothing for a call that concerns
    /// no key.
    pub(crate) decision: Option<&'static str>,
    pub(crate) statement: Option<String>,
}

/// Operations on one key that this KMS decides but does not perform.
const DECIDED_ONLY: [&str; 22] = [
    "CreateGrant",
    "DeleteImportedKeyMaterial",
    "DeriveSharedSecret",
    "DisableKeyRotation",
    "EnableKeyRotation",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "GetKeyRotationStatus",
    "GetParametersForImport",
    "GetPublicKey",
    "ImportKeyMaterial",
    "ListKeyPolicies",
    "ListResourceTags",
    "ReplicateKey",
    "RotateKeyOnDemand",
    "Sign",
    "TagResource",
    "UntagResource",
    "UpdateKeyDescription",
    "UpdatePrimaryRegion",
];

const PERFORMED: [&str; 14] = [
    "CancelKeyDeletion",
    "CreateKey",
    "Decrypt",
    "DescribeKey",
    "DisableKey",
    "EnableKey",
    "Encrypt",
    "GenerateDataKey",
    "GetKeyPolicy",
    "ListGrants",
    "ListKeys",
    "PutKeyPolicy",
    "ReEncrypt",
    "ScheduleKeyDeletion",
];

/// The name of a known operation.
pub(crate) fn known(operation: &str) -> Option<&'static str> {
    PERFORMED
        .into_iter()
        .chain(DECIDED_ONLY)
        .find(|known| *known == operation)
}

impl<'a> Call<'a> {
    pub(crate) fn new(kms: &'a Kms, caller: &'a Caller, now: Duration) -> Self {
        Self {
            kms,
            caller,
            now,
            audit: Audit::default(),
        }
    }

    /// Performs one of the [`known`] operations.
    pub(crate) fn perform(
        &mut self,
        operation: &'static str,
        body: &[u8],
    ) -> Result<Value, KmsError> {
        match operation {
            "CancelKeyDeletion" => self.cancel_key_deletion(&parameters(body)?),
            "CreateKey" => self.create_key(parameters(body)?),
            "Decrypt" => self.decrypt(&parameters(body)?),
            "DescribeKey" => self.describe_key(&parameters(body)?),
            "DisableKey" => self.set_disabled(&parameters(body)?, operation, true),
            "EnableKey" => self.set_disabled(&parameters(body)?, operation, false),
            "Encrypt" => self.encrypt(&parameters(body)?),
            "GenerateDataKey" => self.generate_data_key(&parameters(body)?),
            "GetKeyPolicy" => self.fetch_key_policy(&parameters(body)?),
            "ListGrants" => self.list_grants(&parameters(body)?),
            "ListKeys" => self.list_keys(),
            "PutKeyPolicy" => self.put_key_policy(parameters(body)?),
            "ReEncrypt" => self.re_encrypt(&parameters(body)?),
            "ScheduleKeyDeletion" => self.schedule_key_deletion(&parameters(body)?),
            _ => self.decide_only(operation, body),
        }
    }

    fn decide_only(&mut self, operation: &str, body: &[u8]) -> Result<Value, KmsError> {
        let parameters: Value = parameters(body)?;
        let named = parameters
            .get("KeyId")
            .or_else(|| parameters.get("ResourceArn"))
            .and_then(Value::as_str);
        let key = self
            .kms
            .keys
            .find(named.ok_or_else(|| KmsError::validation("KeyId is missing"))?)?;
        self.authorize(&key, operation, [])?;
        Err(KmsError::new(
            "UnsupportedOperationException",
            "the policy allows it; the local KMS does not do it",
        ))
    }

    /// Asks the key's policy.
    fn authorize(
        &mut self,
        key: &Key,
        operation: &str,
        context: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), KmsError> {
        let request = self.request(self.kms.keys.arn(key), operation, context);
        let (decision, statement) = match evaluate(&key.policy, &request) {
            Ok(Decision::Allow(statement)) => ("allow", Some(statement)),
            Ok(Decision::ImplicitDeny) => ("implicit deny", None),
            Ok(Decision::ExplicitDeny(statement)) => ("explicit deny", Some(statement)),
            // A request that the policy cannot decide is denied.
            Err(_) => ("undecidable", None),
        };
        self.audit.key = Some(request.resource.clone());
        self.audit.decision = Some(decision);
        self.audit.statement = statement;
        if decision == "allow" {
            return Ok(());
        }
        let because = match decision {
            "explicit deny" => "with an explicit deny in a resource-based policy".to_owned(),
            _ => format!(
                "because no resource-based policy allows the {} action",
                request.action
            ),
        };
        let KmsRequest {
            principal_arn,
            action,
            resource,
            ..
        } = request;
        let message = format!(
            "User: {principal_arn} is not authorized to perform: {action} on resource: {resource} {because}"
        );
        Err(KmsError::new("AccessDeniedException", message))
    }

    /// The request as a policy sees it. The evaluator refuses duplicate and unknown condition keys.
    fn request(
        &self,
        resource: String,
        operation: &str,
        context: impl IntoIterator<Item = (String, String)>,
    ) -> KmsRequest {
        let mut values = BTreeMap::<_, Vec<_>>::new();
        for (key, value) in context {
            values.entry(key).or_default().push(value);
        }
        KmsRequest {
            principal_arn: self.caller.principal_arn.clone(),
            account: self.caller.account.clone(),
            action: format!("kms:{operation}"),
            resource,
            context: values,
        }
    }
}

/// A call's parameters. Unknown ones are refused rather than ignored: a DryRun, ignored, would be a
/// real run.
fn parameters<T: DeserializeOwned>(body: &[u8]) -> Result<T, KmsError> {
    let body = if body.is_empty() { b"{}" } else { body };
    // The parser's own message could quote a plaintext.
    serde_json::from_slice(body).map_err(|error| {
        KmsError::validation(format!(
            "the parameters are not valid at line {}, column {}",
            error.line(),
            error.column()
        ))
    })
}
