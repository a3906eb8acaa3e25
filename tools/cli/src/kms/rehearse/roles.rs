//! Throw-away IAM roles that stand in for the table's callers.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use cloister_key_policy::Deployment;
use serde_json::json;

use super::super::table::Role;
use super::ROLES;
use super::iam::Iam;
use crate::aws;
use crate::failure::Failure;
use crate::options::Common;

/// The five roles of one rehearsal.
#[derive(Debug)]
pub(super) struct Roles {
    iam: Iam,
    sts: aws_sdk_sts::Client,
    prefix: String,
    /// `arn:PARTITION:iam::ACCOUNT:`
    arns: String,
    /// The keys that the roles may use.
    keys: Mutex<Vec<String>>,
}

/// A role's name in the rehearsal `prefix`.
pub(super) fn name(prefix: &str, role: Role) -> String {
    let role = match role {
        Role::Signer => "signer",
        Role::Generator => "key-generator",
        Role::Retirement => "retirement",
        Role::Administrator => "administrator",
        Role::Lambda => "lambda",
        Role::Another | Role::Root => "another",
    };
    format!("{prefix}-{role}")
}

impl Roles {
    pub(super) async fn new(
        common: &Common,
        configuration: &SdkConfig,
        deployment: &Deployment,
        prefix: &str,
    ) -> Result<Self, Failure> {
        let Deployment {
            partition, account, ..
        } = deployment;
        let ca = common
            .ca_file
            .as_deref()
            .map(aws::certificates)
            .transpose()?;
        Ok(Self {
            iam: Iam::new(
                partition,
                aws::credentials(configuration).await?,
                ca.as_deref(),
            )?,
            sts: aws_sdk_sts::Client::new(configuration),
            prefix: prefix.to_owned(),
            arns: format!("arn:{partition}:iam::{account}:"),
            keys: Mutex::default(),
        })
    }

    pub(super) async fn create(&self) -> Result<(), Failure> {
        for role in ROLES {
            self.create_one(role).await?;
        }
        Ok(())
    }

    async fn create_one(&self, role: Role) -> Result<(), Failure> {
        let trust = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": { "AWS": format!("{}root", self.arns) },
                "Action": "sts:AssumeRole",
            }],
        });
        let (name, trust) = (name(&self.prefix, role), trust.to_string());
        let description = "Throw-away role of `cloister kms rehearse`";
        let parameters = [
            ("RoleName", name.as_str()),
            ("AssumeRolePolicyDocument", &trust),
            ("Description", description),
        ];
        self.iam.call("CreateRole", &parameters).await
    }

    /// Allows every role, in IAM, every action on one more key: denials then come from the key's
    /// policy.
    pub(super) async fn allow(&self, key: &str) -> Result<(), Failure> {
        self.keys
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(key.to_owned());
        for role in ROLES {
            self.allow_one(role).await?;
        }
        Ok(())
    }

    async fn allow_one(&self, role: Role) -> Result<(), Failure> {
        let keys = self
            .keys
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Action": "kms:*", "Resource": keys }],
        });
        let (name, policy) = (name(&self.prefix, role), policy.to_string());
        let parameters = [
            ("RoleName", name.as_str()),
            ("PolicyName", POLICY),
            ("PolicyDocument", &policy),
        ];
        self.iam.call("PutRolePolicy", &parameters).await
    }

    /// Deletes a role and creates another one under its name: to IAM and KMS a different principal.
    pub(super) async fn re_create(&self, role: Role) -> Result<(), Failure> {
        self.delete_one(role).await?;
        self.create_one(role).await?;
        self.allow_one(role).await
    }

    pub(super) async fn delete(&self) -> Result<(), Failure> {
        let mut outcome = Ok(());
        for role in ROLES {
            outcome = outcome.and(self.delete_one(role).await);
        }
        outcome
    }

    async fn delete_one(&self, role: Role) -> Result<(), Failure> {
        let name = name(&self.prefix, role);
        let there = |result| match result {
            Err(Failure::Aws {
                code: Some(code), ..
            }) if code == "NoSuchEntity" => Ok(()),
            other => other,
        };
        there(
            self.iam
                .call(
                    "DeleteRolePolicy",
                    &[("RoleName", &name), ("PolicyName", POLICY)],
                )
                .await,
        )?;
        there(self.iam.call("DeleteRole", &[("RoleName", &name)]).await)
    }

    /// Credentials of a role. A new role becomes visible after a while.
    pub(super) async fn assume(&self, role: Role) -> Result<Credentials, Failure> {
        let arn = format!("{}role/{}", self.arns, name(&self.prefix, role));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let assumed = self
                .sts
                .assume_role()
                .role_arn(&arn)
                .role_session_name("cloister-rehearsal")
                .send()
                .await;
            match assumed.map_err(Failure::aws("AssumeRole")) {
                Ok(answer) => {
                    let given = answer
                        .credentials
                        .ok_or_else(|| Failure::Wrong("STS returned no credentials".to_owned()))?;
                    let token = Some(given.session_token);
                    return Ok(Credentials::new(
                        given.access_key_id,
                        given.secret_access_key,
                        token,
                        None,
                        "cloister-rehearsal",
                    ));
                }
                Err(Failure::Aws { code: Some(_), .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

const POLICY: &str = "throw-away-keys";
/// Time for a new role to become visible.
const PATIENCE: Duration = Duration::from_secs(120);
