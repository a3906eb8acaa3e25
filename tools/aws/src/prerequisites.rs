//! Checks before anything is made: the machine, the credentials, the region and its quotas.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use cloister_contract::Architecture;
use cloister_toolchain::command::output;
use cloister_toolchain::debian;
use serde_json::Value;

use crate::artefacts;
use crate::commands::{Commands, Line};
use crate::deployment::{Deployment, Platform};
use crate::error::{Error, code};
use crate::stack::{Stack, State};

/// Images are built with Debian's packages; each build installs its own.
///
/// # Errors
/// If the machine is another one, or packages are missing and the user may not install them.
pub(crate) fn machine(deployment: &Deployment, commands: &Commands) -> Result<()> {
    if commands.is_dry() || commands.replaces("cargo") {
        return Ok(());
    }
    debian_on_x86(std::env::consts::ARCH, Path::new("/etc/debian_version"))?;
    let user = output(Command::new("id").arg("-u"))?;
    root_for_containers(deployment, &user)?;
    debian::require(PACKAGES)
}

/// nitro-cli is installed into them by dnf, which no other user can run.
fn root_for_containers(deployment: &Deployment, user: &str) -> Result<()> {
    if user != "0" && !artefacts::containers(deployment).is_empty() {
        bail!(Error::NotRoot);
    }
    Ok(())
}

fn debian_on_x86(architecture: &str, version: &Path) -> Result<()> {
    if architecture != "x86_64" || !version.exists() {
        bail!(Error::NotDebian);
    }
    Ok(())
}

/// Compares the credentials' account with the deployment's.
///
/// # Errors
/// If they differ, or there are no valid credentials.
pub(crate) fn account(deployment: &Deployment, commands: &Commands) -> Result<()> {
    let line = Line::aws(["sts", "get-caller-identity"]);
    let Some(identity) = json(commands, &line)? else {
        return Ok(());
    };
    let actual = identity["Account"].as_str().unwrap_or_default();
    if actual != deployment.account {
        return Err(Error::WrongAccount {
            expected: deployment.account.clone(),
            actual: actual.to_owned(),
        }
        .into());
    }
    let arn = identity["Arn"].as_str().unwrap_or_default();
    commands.say(&format!("  account {actual}, as {arn}"));
    Ok(())
}

/// The region exists, is enabled, and has the type of machine with enclaves, Kubernetes, and
/// enough of what is limited.
///
/// # Errors
/// If something is missing. What AWS does not tell is not checked, and that is said.
pub(crate) fn region(deployment: &Deployment, commands: &Commands) -> Result<()> {
    tolerated(enabled(deployment, commands), commands)?;
    let processors = tolerated(machine_processors(deployment, commands), commands)?;
    tolerated(kubernetes(deployment, commands), commands)?;
    tolerated(quotas(deployment, processors, commands), commands)
}

/// Goes on without an answer that may not be asked for, or that AWS does not give.
pub(crate) fn tolerated<T: Default>(outcome: Result<T>, commands: &Commands) -> Result<T> {
    match outcome {
        Err(error) if is_no_answer(&error) => {
            commands.say(&format!("  not checked: {error:#}"));
            Ok(T::default())
        }
        outcome => outcome,
    }
}

fn enabled(deployment: &Deployment, commands: &Commands) -> Result<()> {
    let region = &deployment.region;
    // A region that is not enabled does not answer for itself.
    let home = match deployment.partition() {
        "aws-cn" => "cn-north-1",
        "aws-us-gov" => "us-gov-west-1",
        _ => "us-east-1",
    };
    let line = Line::aws([
        "ec2",
        "describe-regions",
        "--all-regions",
        "--region-names",
        region,
    ])
    .args(["--region", home, "--query", "Regions[0].OptInStatus"]);
    let unknown = || Error::UnknownRegion {
        region: region.clone(),
    };
    let status = match json(commands, &line) {
        Err(error) if code(&error) == "InvalidParameterValue" => return Err(unknown().into()),
        answer => answer?,
    };
    match status.as_ref().map(Value::as_str) {
        Some(Some("not-opted-in")) => Err(Error::RegionNotEnabled {
            region: region.clone(),
        }
        .into()),
        Some(None) => Err(unknown().into()),
        _ => Ok(()),
    }
}

/// The processors of one machine, if its type is offered here with enclaves; 0 if that is unknown.
fn machine_processors(deployment: &Deployment, commands: &Commands) -> Result<u64> {
    let kind = machine_type(deployment);
    let filter = format!("Name=instance-type,Values={kind}");
    let line = Line::aws(["ec2", "describe-instance-types", "--filters"])
        .args([
            filter.as_str(),
            "Name=nitro-enclaves-support,Values=supported",
        ])
        .args(["--query", "InstanceTypes[].VCpuInfo.DefaultVCpus"]);
    let Some(processors) = json(commands, &line)? else {
        return Ok(0);
    };
    processors[0].as_u64().ok_or_else(|| {
        let missing = Error::RegionLacks {
            region: deployment.region.clone(),
            what: format!("machines `{kind}` with Nitro Enclaves"),
            remedy: ", or another type with CDK_MACHINE_TYPE",
        };
        missing.into()
    })
}

fn kubernetes(deployment: &Deployment, commands: &Commands) -> Result<()> {
    if deployment.platform != Platform::Kubernetes {
        return Ok(());
    }
    let line = Line::aws(["eks", "list-clusters", "--max-items", "1"]);
    match json(commands, &line) {
        Err(error) if matches!(error.downcast_ref(), Some(Error::Unreachable { .. })) => {
            Err(Error::RegionLacks {
                region: deployment.region.clone(),
                what: "EKS".to_owned(),
                remedy: ", or CDK_VARIANT=ecs",
            }
            .into())
        }
        answer => answer.map(drop),
    }
}

/// Quotas that the machines and the network of a first deployment use.
fn quotas(deployment: &Deployment, processors: u64, commands: &Commands) -> Result<()> {
    let stacks = deployment.replaceable_stacks();
    let first = stacks.first().map_or("", String::as_str);
    if !commands.is_dry() && Stack::new(commands, first).state()? == State::Settled {
        return Ok(());
    }
    let in_use = |words: &[&str], query: &str| -> Result<u64> {
        let line = Line::aws(words.iter().copied()).args(["--query", query]);
        Ok(json(commands, &line)?
            .and_then(|count| count.as_u64())
            .unwrap_or(0))
    };
    let mut needs = vec![(
        (
            "ec2",
            "L-1216C47A",
            "Running On-Demand Standard instances (vCPUs)",
        ),
        0,
        count(deployment) * processors,
    )];
    if deployment.given("CDK_VPC_ID").is_none() {
        let used = in_use(&["ec2", "describe-vpcs"], "length(Vpcs)")?;
        needs.push((("vpc", "L-F678F1CE", "VPCs per Region"), used, 1));
        let used = in_use(&["ec2", "describe-addresses"], "length(Addresses)")?;
        needs.push((("ec2", "L-0263D0A3", "EC2-VPC Elastic IPs"), used, 1));
    }
    let concurrency = ("lambda", "L-B99A9384", "Concurrent executions");
    needs.push((concurrency, 0, LEAST_CONCURRENCY));
    for ((service, quota, name), used, needed) in needs {
        let Some(limit) = limit(commands, service, quota)? else {
            continue;
        };
        if limit < used + needed {
            return Err(Error::Quota {
                name,
                service,
                quota,
                region: deployment.region.clone(),
                limit,
                used,
                needed,
                desired: (used + needed).max(2 * needed),
            }
            .into());
        }
    }
    Ok(())
}

/// The applied quota; AWS's default if none was applied.
fn limit(commands: &Commands, service: &str, quota: &str) -> Result<Option<u64>> {
    let of = |operation: &str| {
        let line = Line::aws(["service-quotas", operation, "--service-code", service]).args([
            "--quota-code",
            quota,
            "--query",
            "Quota.Value",
        ]);
        json(commands, &line)
    };
    let value = match of("get-service-quota") {
        Err(error) if code(&error) == "NoSuchResourceException" => {
            of("get-aws-default-service-quota")?
        }
        answer => answer?,
    };
    // AWS writes `64.0`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a quota is small"
    )]
    Ok(value
        .and_then(|value| value.as_f64())
        .map(|value| value as u64))
}

/// The answer of `aws`; `None` in a dry run.
pub(crate) fn json(commands: &Commands, line: &Line) -> Result<Option<Value>> {
    let Some(text) = commands.read(line)? else {
        return Ok(None);
    };
    let text = if text.is_empty() { "null" } else { &text };
    serde_json::from_str(text)
        .with_context(|| format!("{line} did not print JSON"))
        .map(Some)
}

fn is_no_answer(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(Error::NotPermitted { .. } | Error::Aws { .. })
    )
}

fn machine_type(deployment: &Deployment) -> &str {
    let default = match deployment.architecture {
        Architecture::Amd64 => "m6i.2xlarge",
        Architecture::Arm64 => "m7g.2xlarge",
    };
    deployment.given("CDK_MACHINE_TYPE").unwrap_or(default)
}

fn count(deployment: &Deployment) -> u64 {
    let default = match deployment.given("CDK_SIZE") {
        Some("small") => 2,
        _ => 3,
    };
    let given = deployment.given("CDK_MACHINES");
    given
        .and_then(|count| count.parse().ok())
        .unwrap_or(default)
}

/// For pushing container images, and the line that calls the deployment. Builds name their own.
const PACKAGES: &[&str] = &["curl", "skopeo"];

/// Of the region's functions: new accounts begin with 10.
const LEAST_CONCURRENCY: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Environment;
    use crate::deployment::Target;

    #[test]
    fn container_images_are_built_by_root_alone() {
        let deployment = |given: &[(&str, &str)]| {
            let target = Target {
                account: Some("123456789012".to_owned()),
                region: Some("eu-central-1".to_owned()),
                ..Target::default()
            };
            let given = given.iter();
            let given: Environment = given
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            Deployment::new(&target, &given).unwrap()
        };
        let present = ("CDK_POD_IMAGES", "signer=a,key-generator=b");
        let next = ("CDK_NEXT_IMAGES", "/next");
        let next_pods = ("CDK_NEXT_POD_IMAGES", "signer=a,key-generator=b");
        for (given, needed) in [
            (vec![], true),
            (vec![present], false),
            (vec![present, next], true),
            (vec![present, next, next_pods], false),
        ] {
            let deployment = deployment(&given);
            root_for_containers(&deployment, "0").unwrap();
            let refused = root_for_containers(&deployment, "1000").err();
            let refused = refused.map(|error| error.downcast::<Error>().unwrap());
            assert_eq!(refused, needed.then_some(Error::NotRoot), "{given:?}");
        }
    }

    #[test]
    fn other_systems_are_refused() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let nowhere = Path::new("/nonexistent");
        debian_on_x86("x86_64", here).unwrap();
        for (architecture, version) in [("x86_64", nowhere), ("aarch64", here)] {
            let error = debian_on_x86(architecture, version).unwrap_err();
            assert_eq!(error.downcast_ref(), Some(&Error::NotDebian));
        }
    }
}
