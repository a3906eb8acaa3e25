//! A deployment's configuration, as far as names and commands follow from it. The rest is read and
//! checked by the CDK app alone.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use cloister_contract::{AccountId, Architecture, Region};

use crate::Environment;
use crate::error::Error;

/// Options that choose a deployment. Each has a variable `CDK_…`, which it overrides.
#[derive(Args, Clone, Debug, Default)]
pub struct Target {
    /// The account's twelve digits (CDK_DEPLOY_ACCOUNT)
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// Such as eu-central-1 (CDK_DEPLOY_REGION)
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Begins every name; `--prefix ''` is production [CDK_PREFIX; default: dev-]
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// amd64 or arm64 [CDK_TARGET_ARCHITECTURE; default: amd64]
    #[arg(long, value_name = "ARCHITECTURE")]
    pub architecture: Option<Architecture>,
}

/// A platform of the pods, by CDK_VARIANT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// A cluster of the deployment's own.
    Kubernetes,
    /// Tasks.
    Ecs,
    /// A cluster that the operator has.
    Identities,
}

impl Platform {
    const ALL: [Self; 3] = [Self::Kubernetes, Self::Ecs, Self::Identities];

    /// The value of CDK_VARIANT.
    pub fn variant(self) -> &'static str {
        match self {
            Self::Kubernetes => "eks",
            Self::Ecs => "ecs",
            Self::Identities => "identities",
        }
    }

    /// In the order of their deployment; the first one is of no other platform.
    fn stacks(self) -> &'static [&'static str] {
        match self {
            Self::Kubernetes => &["cluster", "application"],
            Self::Ecs => &["ecs"],
            Self::Identities => &["identities", "application"],
        }
    }
}

/// A deployment.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Empty, or ends with a hyphen.
    pub prefix: String,
    /// Twelve digits.
    pub account: String,
    /// Of the deployment.
    pub region: String,
    /// Of enclaves, machines and function.
    pub architecture: Architecture,
    /// The pods' platform.
    pub platform: Platform,
    /// False keeps resources of a failed deployment, for a look at the cause.
    pub rollback: bool,
    /// The operator's `CDK_…` variables.
    given: Environment,
}

impl Deployment {
    /// Reads options and variables.
    ///
    /// # Errors
    /// If account or region is missing, or something is malformed.
    pub fn new(target: &Target, environment: &Environment) -> Result<Self> {
        let given: Environment = environment
            .iter()
            .filter(|(name, value)| name.starts_with("CDK_") && !value.is_empty())
            .map(|(name, value)| (name.clone(), absolute(name, value)))
            .collect();
        let of = |option: &Option<String>, variable: &str| {
            option.clone().or_else(|| given.get(variable).cloned())
        };
        let account = of(&target.account, "CDK_DEPLOY_ACCOUNT").unwrap_or_default();
        if account.parse::<AccountId>().is_err() {
            bail!(malformed(
                "--account or CDK_DEPLOY_ACCOUNT",
                &account,
                "the twelve digits of the AWS account",
            ));
        }
        let region = of(&target.region, "CDK_DEPLOY_REGION").unwrap_or_default();
        if region.parse::<Region>().is_err() {
            bail!(malformed(
                "--region or CDK_DEPLOY_REGION",
                &region,
                "an AWS region, such as eu-central-1",
            ));
        }
        let architecture = match (target.architecture, given.get("CDK_TARGET_ARCHITECTURE")) {
            (Some(architecture), _) => architecture,
            (None, None) => Architecture::default(),
            (None, Some(platform)) => platform
                .strip_prefix("linux/")
                .and_then(|name| name.parse().ok())
                .ok_or_else(|| {
                    malformed(
                        "CDK_TARGET_ARCHITECTURE",
                        platform,
                        "linux/amd64 or linux/arm64",
                    )
                })?,
        };
        // An empty CDK_PREFIX asks for production, as it does in the CDK app.
        let prefix = target
            .prefix
            .clone()
            .or_else(|| environment.get("CDK_PREFIX").cloned());
        let mut prefix = prefix.unwrap_or_else(|| "dev-".to_owned());
        if !prefix.is_empty() && !prefix.ends_with('-') {
            prefix.push('-');
        }
        Ok(Self {
            prefix,
            account,
            region,
            architecture,
            platform: match given.get("CDK_VARIANT").map(String::as_str) {
                Some("ecs") => Platform::Ecs,
                Some("identities") => Platform::Identities,
                // The CDK app refuses others.
                _ => Platform::Kubernetes,
            },
            rollback: true,
            given,
        })
    }

    /// The same deployment, which keeps what fails or does not.
    #[must_use]
    pub fn with_rollback(mut self, rollback: bool) -> Self {
        self.rollback = rollback;
        self
    }

    /// True unless the prefix begins with `dev` or `test`.
    pub fn is_production(&self) -> bool {
        !["dev", "test"]
            .iter()
            .any(|begin| self.prefix.starts_with(begin))
    }

    /// The variables of every command.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let mut variables = self.given.clone();
        let own = [
            ("CDK_PREFIX", self.prefix.clone()),
            ("CDK_DEPLOY_ACCOUNT", self.account.clone()),
            ("CDK_DEPLOY_REGION", self.region.clone()),
            (
                "CDK_TARGET_ARCHITECTURE",
                format!("linux/{}", self.architecture),
            ),
            ("AWS_REGION", self.region.clone()),
            ("AWS_DEFAULT_REGION", self.region.clone()),
            ("AWS_DEFAULT_OUTPUT", "json".to_owned()),
        ];
        variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
        variables
    }

    /// A `CDK_…` variable that the operator has set.
    pub fn given(&self, variable: &str) -> Option<&str> {
        self.given.get(variable).map(String::as_str)
    }

    /// The name of a resource: a stack, a role, a repository.
    pub fn name(&self, what: &str) -> String {
        format!("{}cloister-{what}", self.prefix)
    }

    /// An SSM parameter of this deployment.
    pub fn parameter(&self, what: &str) -> String {
        match self.given("CDK_PARAMETER_PREFIX") {
            Some(prefix) => format!("{prefix}/{what}"),
            None => format!("/{}app/ethereum/{what}", self.prefix),
        }
    }

    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub fn partition(&self) -> &'static str {
        match &self.region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    /// The ARN of a role of this deployment.
    pub fn role(&self, what: &str) -> String {
        format!(
            "arn:{}:iam::{}:role/{}",
            self.partition(),
            self.account,
            self.name(what)
        )
    }

    /// The stacks that can be destroyed and deployed again, in the order of their deployment.
    pub fn replaceable_stacks(&self) -> Vec<String> {
        let names = self.platform.stacks().iter();
        names.map(|name| self.name(name)).collect()
    }

    /// Stacks that other platforms have and this one has not, each with one that has it. Those that
    /// tell platforms apart come first.
    pub fn other_stacks(&self) -> Vec<(String, Platform)> {
        let own = self.platform.stacks();
        let of = |platform: Platform| {
            let names = platform.stacks().iter();
            names.map(move |name| (*name, platform))
        };
        let first = Platform::ALL.into_iter().flat_map(|each| of(each).take(1));
        let rest = Platform::ALL.into_iter().flat_map(|each| of(each).skip(1));
        let mut others: Vec<_> = first
            .chain(rest)
            .filter(|(name, _)| !own.contains(name))
            .collect();
        others.dedup_by_key(|(name, _)| *name);
        let others = others.into_iter();
        others
            .map(|(name, platform)| (self.name(name), platform))
            .collect()
    }

    /// The repository of the pods' container images.
    pub fn repository(&self) -> String {
        let suffix = match self.partition() {
            "aws-cn" => "amazonaws.com.cn",
            _ => "amazonaws.com",
        };
        let (account, region) = (&self.account, &self.region);
        format!("{account}.dkr.ecr.{region}.{suffix}/{}", self.name("pods"))
    }

    /// The stack of roles and table.
    pub fn base_stack(&self) -> String {
        self.name("base")
    }

    /// The stack of the CMK.
    pub fn key_stack(&self) -> String {
        self.name("key")
    }
}

/// A path as it was meant where the command was typed: builds and the CDK run elsewhere.
fn absolute(variable: &str, value: &str) -> String {
    if !PATHS.contains(&variable) || value.starts_with("s3://") {
        return value.to_owned();
    }
    let path = std::path::absolute(value);
    path.map_or_else(|_| value.to_owned(), |path| path.display().to_string())
}

/// Variables that name files.
const PATHS: &[&str] = &["CDK_FRONT_DOOR", "CDK_IMAGES", "CDK_NEXT_IMAGES"];

fn malformed(option: &'static str, value: &str, expected: &'static str) -> Error {
    let value = match value {
        "" => "missing".to_owned(),
        value => format!("`{value}`"),
    };
    Error::Option {
        option,
        value,
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(of: &[(&str, &str)]) -> Environment {
        of.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn options_win_over_variables() {
        let environment = environment(&[
            ("CDK_DEPLOY_ACCOUNT", "111111111111"),
            ("CDK_DEPLOY_REGION", "eu-west-1"),
            ("CDK_TARGET_ARCHITECTURE", "linux/arm64"),
            ("CDK_PREFIX", "dev"),
            ("CDK_VARIANT", "ecs"),
            ("HOME", "/root"),
        ]);
        let deployment = Deployment::new(&Target::default(), &environment).unwrap();
        assert_eq!(deployment.base_stack(), "dev-cloister-base");
        assert_eq!(deployment.replaceable_stacks(), ["dev-cloister-ecs"]);
        let others = [
            ("cluster", Platform::Kubernetes),
            ("identities", Platform::Identities),
            ("application", Platform::Kubernetes),
        ];
        assert_eq!(
            deployment.other_stacks(),
            others.map(|(name, platform)| (deployment.name(name), platform))
        );
        let variables = deployment.variables();
        assert_eq!(variables["CDK_TARGET_ARCHITECTURE"], "linux/arm64");
        assert!(!variables.contains_key("HOME"));

        let target = Target {
            account: Some("222222222222".into()),
            region: Some("us-gov-west-1".into()),
            prefix: Some(String::new()),
            architecture: Some(Architecture::Amd64),
        };
        let deployment = Deployment::new(&target, &environment).unwrap();
        assert_eq!(
            deployment.role("invoke"),
            "arn:aws-us-gov:iam::222222222222:role/cloister-invoke"
        );
        let variables = deployment.variables();
        assert_eq!(variables["CDK_PREFIX"], "");
        assert_eq!(variables["CDK_TARGET_ARCHITECTURE"], "linux/amd64");
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        for (given, expected) in [
            (vec![], "--account or CDK_DEPLOY_ACCOUNT"),
            (
                vec![("CDK_DEPLOY_ACCOUNT", "12")],
                "--account or CDK_DEPLOY_ACCOUNT",
            ),
            (
                vec![("CDK_DEPLOY_ACCOUNT", "111111111111")],
                "--region or CDK_DEPLOY_REGION",
            ),
        ] {
            let error = Deployment::new(&Target::default(), &environment(&given)).unwrap_err();
            assert!(
                matches!(error.downcast_ref(), Some(Error::Option { option, .. }) if *option == expected),
                "{error}"
            );
        }
    }
}
