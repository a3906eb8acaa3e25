//! Setting up a rehearsal: two throw-away keys, each under a rendered policy.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use cloister_contract::ErrorChain;
use cloister_key_policy::{Deployment, Expected, Form, Pcr0, check, render};

use super::super::table::{Role, policy_name};
use super::call::{self, Outcome, Target, perform};
use super::{PATIENCE, ROLES, Rehearsal, roles};
use crate::failure::Failure;

impl Rehearsal<'_> {
    /// Creates a key and puts the rendered policy on it. Ciphertexts for the refused calls are made
    /// before, under KMS's default policy.
    pub(super) async fn key(
        &self,
        name: &str,
        form: Form,
        keys: &mut Vec<String>,
    ) -> Result<Target, Failure> {
        let form_name = policy_name(form, &self.measurements);
        let created = self
            .operator
            .create_key()
            .description(format!("{name}: throw-away key, {form_name} form"))
            .send()
            .await
            .map_err(Failure::aws("CreateKey"))?;
        let arn = created
            .key_metadata
            .and_then(|key| key.arn)
            .ok_or_else(|| Failure::Wrong("KMS created a key without an ARN".to_owned()))?;
        keys.push(arn.clone());
        self.roles.allow(&arn).await?;

        let mut ciphertexts = BTreeMap::new();
        let purposes: BTreeMap<_, _> = self
            .table
            .actions
            .iter()
            .map(|action| (&action.purpose, action))
            .collect();
        for (purpose, action) in purposes {
            let encrypted = self
                .operator
                .encrypt()
                .key_id(&arn)
                .plaintext(Blob::new(*b"nothing"))
                .set_encryption_context(call::context(action))
                .send()
                .await
                .map_err(Failure::aws("Encrypt"))?;
            ciphertexts.insert(
                purpose.clone(),
                encrypted.ciphertext_blob.unwrap_or_else(|| Blob::new([])),
            );
        }
        let policy = render(&self.deployment, &self.measurements, form)
            .map_err(|error| Failure::Here(ErrorChain(&error).to_string()))?;
        self.operator
            .put_key_policy()
            .key_id(&arn)
            .policy_name("default")
            .policy(&policy)
            .bypass_policy_lockout_safety_check(true)
            .send()
            .await
            .map_err(Failure::aws("PutKeyPolicy"))?;
        self.holds(&arn, form).await?;
        Ok(Target {
            arn,
            policy,
            ciphertexts,
            grantee: self.deployment.signer_role.clone(),
        })
    }

    /// Waits until KMS returns the policy that was put.
    pub(super) async fn holds(&self, arn: &str, form: Form) -> Result<(), Failure> {
        let expected = Expected {
            deployment: &self.deployment,
            signer: self.measurements.signer,
            generator: Some(self.measurements.generator),
            accept_open: true,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.go_on()?;
            let found = self
                .operator
                .get_key_policy()
                .key_id(arn)
                .policy_name("default")
                .send()
                .await;
            let found = found
                .map_err(Failure::aws("GetKeyPolicy"))?
                .policy
                .unwrap_or_default();
            match check(&found, &expected) {
                Ok(checked) if checked.form == form => return Ok(()),
                other if Instant::now() > deadline => {
                    let why = other.err().map_or_else(
                        || "it is the other form".to_owned(),
                        |error| ErrorChain(&error).to_string(),
                    );
                    return Err(Failure::Wrong(format!(
                        "KMS returns another policy than was put: {why}"
                    )));
                }
                _ => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// Waits for IAM and KMS to become consistent: a denial counts only after the roles' own policies
    /// allow the call, and the key's default policy is gone.
    pub(super) async fn settled(&self, target: &Target) -> Result<(), Failure> {
        for role in ROLES {
            let client = self.client(role).await?;
            self.patiently(|| describe_works(&client, target)).await?;
        }
        let encrypt = self
            .table
            .actions
            .iter()
            .find(|action| action.action == "kms:Encrypt");
        let encrypt =
            encrypt.ok_or_else(|| Failure::Here("the table has no Encrypt".to_owned()))?;
        self.patiently(|| async {
            matches!(
                perform(&self.operator, target, encrypt).await,
                Some(Outcome::DeniedByPolicy { .. })
            )
        })
        .await
    }

    pub(super) async fn patiently<F: Future<Output = bool>>(
        &self,
        condition: impl Fn() -> F,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            self.go_on()?;
            if Instant::now() > deadline {
                return Err(Failure::Here(format!(
                    "IAM and KMS did not settle within {} minutes",
                    PATIENCE.as_secs() / 60
                )));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }
}

pub(super) async fn describe_works(client: &Client, target: &Target) -> bool {
    client
        .describe_key()
        .key_id(&target.arn)
        .send()
        .await
        .is_ok()
}

pub(super) fn deployment(partition: &str, account: &str, region: &str, name: &str) -> Deployment {
    let role = |role| {
        format!(
            "arn:{partition}:iam::{account}:role/{}",
            roles::name(name, role)
        )
    };
    Deployment {
        partition: partition.to_owned(),
        account: account.to_owned(),
        region: region.to_owned(),
        signer_role: role(Role::Signer),
        generator_role: role(Role::Generator),
        retirement_role: role(Role::Retirement),
        administrator_role: role(Role::Administrator),
    }
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::Here(format!("no randomness: {error}")))?;
    Ok(bytes)
}

/// The measurement of an image that does not exist.
pub(super) fn random_pcr0() -> Result<Pcr0, Failure> {
    Pcr0::try_from(random()?).map_err(|error| Failure::Here(ErrorChain(&error).to_string()))
}
