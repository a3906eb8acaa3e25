//! Would this policy let this request through?

use std::collections::BTreeMap;

use crate::{
    condition::{canonical_context, glob_matches},
    policy::{Effect, Policy, PolicyError, Principal, Resource, Statement, is_account_prefix},
};

/// A request to KMS, as its policy sees it.
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

/// What the policy says. The account's own identity policies are not consulted: an allow for the
/// account is taken as an allow.
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
/// [`PolicyError`] when the policy or the request holds anything outside the closed subset.
pub fn evaluate(policy: &str, request: &KmsRequest) -> Result<Decision, PolicyError> {
    policy.parse::<Policy>()?.evaluate(request)
}

impl Policy {
    /// Evaluates the policy for one request.
    ///
    /// # Errors
    /// [`PolicyError`] when the request holds something that KMS would not send.
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
    // The account's part of the ARN ends with its fifth colon.
    arn.match_indices(':').nth(4).is_some_and(|(end, _)| {
        is_account_prefix(&arn[..=end]) && arn[..end].ends_with(account) && account.len() == 12
    })
}
