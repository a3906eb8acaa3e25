//! Evaluates a policy for a request.

use std::collections::BTreeMap;

use cloister_contract::{AccountId, Arn};

use crate::condition::{canonical_context, glob_matches};
use crate::error::PolicyError;
use crate::policy::{Effect, Policy, Principal, Resource, Statement};

/// The facts of a request to KMS that a policy decides on.
#[derive(Debug, Clone)]
pub struct KmsRequest {
    /// The caller: the ARN of a role (not of its session), a user, or `…:root`. Becomes
    /// `aws:PrincipalArn`.
    pub principal_arn: String,
    /// The caller's account. Becomes `kms:CallerAccount`.
    pub account: String,
    /// `kms:Decrypt` and its like.
    pub action: String,
    /// The key's ARN.
    pub resource: String,
    /// The other condition keys of the request, each with one value:
    /// `kms:RecipientAttestation:ImageSha384`, `kms:EncryptionContext:purpose`.
    pub context: BTreeMap<String, Vec<String>>,
}

/// The decision of a policy. The account's own identity policies are not consulted: an allow for
/// the account counts as an allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, by the statement with this Sid.
    Allow(String),
    /// No statement allows it.
    ImplicitDeny,
    /// Denied, by the statement with this Sid, whatever else allows it.
    ExplicitDeny(String),
}

/// Evaluates a key policy's text for one request.
///
/// # Errors
/// [`PolicyError`] if the policy or the request holds anything outside the closed subset.
pub fn evaluate(policy: &str, request: &KmsRequest) -> Result<Decision, PolicyError> {
    policy.parse::<Policy>()?.evaluate(request)
}

impl Policy {
    /// Evaluates the policy for one request.
    ///
    /// # Errors
    /// [`PolicyError`] if the request holds something that KMS would not send.
    pub fn evaluate(&self, request: &KmsRequest) -> Result<Decision, PolicyError> {
        if !is_principal_of(&request.principal_arn, &request.account) {
            return Err(PolicyError::Principal(request.principal_arn.clone()));
        }
        let mut context = canonical_context(&request.context)?;
        let own = [
            ("aws:principalarn", &request.principal_arn),
            ("kms:calleraccount", &request.account),
        ];
        for (key, value) in own {
            if context.insert(key.to_owned(), value.clone()).is_some() {
                return Err(PolicyError::ContextKey(key.to_owned()));
            }
        }

        let applying = |effect: Effect| {
            self.statements
                .iter()
                .find(|statement| {
                    statement.effect == effect && statement.applies(request, &context)
                })
                .map(|statement| statement.sid.clone())
        };
        if let Some(sid) = applying(Effect::Deny) {
            return Ok(Decision::ExplicitDeny(sid));
        }
        Ok(applying(Effect::Allow).map_or(Decision::ImplicitDeny, Decision::Allow))
    }
}

impl Statement {
    fn applies(&self, request: &KmsRequest, context: &BTreeMap<String, String>) -> bool {
        let action = request.action.to_ascii_lowercase();
        let principal = |principal: &Principal| match principal {
            Principal::Anybody => true,
            Principal::Account(account) => request.principal_arn.starts_with(account),
        };
        let resource = |resource: &Resource| match resource {
            Resource::Any => true,
            Resource::Key(arn) => *arn == request.resource,
        };
        self.principals.iter().any(principal)
            && self
                .actions
                .iter()
                .any(|pattern| glob_matches(pattern, &action))
            && self.resources.iter().any(resource)
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(context))
    }
}

fn is_principal_of(arn: &str, account: &str) -> bool {
    arn.parse::<Arn>().is_ok_and(|arn| {
        arn.service() == "iam"
            && arn.region().is_none()
            && arn.account().map(AccountId::as_str) == Some(account)
    })
}
