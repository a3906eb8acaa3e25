//! The end of `cargo aws down`: what stays in the account, until when, and what it costs.

use anyhow::Result;
use chrono::{DateTime, Days, Utc};
use serde_json::Value;

use crate::commands::{Commands, Line};
use crate::deployment::{Deployment, Platform};
use crate::error::code;
use crate::prerequisites::{json, tolerated};
use crate::stack::{Stack, State};
use crate::up::POD_TLS;

/// Prints it.
///
/// # Errors
/// If AWS does not answer.
pub(crate) fn print(deployment: &Deployment, commands: &Commands) -> Result<()> {
    commands.say("what stays");
    let mut lines = Vec::new();
    for stack in [deployment.base_stack(), deployment.key_stack()] {
        if Stack::new(commands, &stack).state()? == State::Settled {
            lines.push(format!("stack {stack}, until `cargo aws down --with-keys`"));
        }
    }
    lines.extend(tolerated(keys(deployment, commands), commands)?);
    lines.extend(tolerated(buckets(deployment, commands), commands)?);
    lines.extend(tolerated(log_groups(deployment, commands), commands)?);
    lines.extend(tolerated(api_logs(deployment, commands), commands)?);
    if deployment.platform == Platform::Ecs {
        let secret = deployment.name(POD_TLS);
        lines.push(format!(
            "secret {secret}: 0.40 USD a month, until `aws secretsmanager delete-secret \
             --force-delete-without-recovery --secret-id {secret}`"
        ));
    }
    lines.push(
        "stack CDKToolkit, which other deployments use too: its bucket costs 0.03 USD a month for \
         each GB"
            .to_owned(),
    );
    if !commands.is_dry() {
        println!("\nWhat stays:\n  {}", lines.join("\n  "));
    }
    Ok(())
}

/// Every CMK that was ever made for this deployment and still exists.
fn keys(deployment: &Deployment, commands: &Commands) -> Result<Vec<String>> {
    let list = Line::aws(["resourcegroupstaggingapi", "get-resources"])
        .args(["--resource-type-filters", "kms:key", "--tag-filters"])
        .args([format!("Key=cloister,Values={}cloister", deployment.prefix)])
        .args(["--query", "ResourceTagMappingList[].ResourceARN"]);
    let describe = |key: &str| Line::aws(["kms", "describe-key", "--key-id", key]);
    if commands.is_dry() {
        let (list, describe) = (list.args(["--output", "text"]), describe("$KEY"));
        commands.list(&format!("for KEY in $({list}); do {describe}; done"));
        return Ok(Vec::new());
    }
    let mut lines = Vec::new();
    for key in texts(json(commands, &list)?) {
        let described = json(commands, &describe(&key))?.unwrap_or_default();
        let described = &described["KeyMetadata"];
        lines.push(match described["DeletionDate"] {
            Value::Null => format!(
                "CMK {key} ({}): 1 USD a month",
                described["KeyState"].as_str().unwrap_or_default()
            ),
            ref date => format!(
                "CMK {key}: deleted on {}, costs nothing until then; {} may cancel that, and a \
                 deployed {} makes that role again",
                day(date),
                deployment.role("retirement"),
                deployment.base_stack()
            ),
        });
    }
    Ok(lines)
}

fn buckets(deployment: &Deployment, commands: &Commands) -> Result<Vec<String>> {
    let ours = format!(
        "Buckets[?starts_with(Name, '{}')].Name",
        deployment.name("")
    );
    let list = Line::aws(["s3api", "list-buckets", "--query", ours.as_str()]);
    let retention = |bucket: &str| {
        Line::aws(["s3api", "get-object-lock-configuration", "--bucket", bucket]).args([
            "--query",
            "ObjectLockConfiguration.Rule.DefaultRetention.Days",
        ])
    };
    if commands.is_dry() {
        let (list, retention) = (list.args(["--output", "text"]), retention("$BUCKET"));
        commands.list(&format!("for BUCKET in $({list}); do {retention}; done"));
        return Ok(Vec::new());
    }
    let mut lines = Vec::new();
    for bucket in texts(json(commands, &list)?) {
        let days = match json(commands, &retention(&bucket)) {
            Err(error) if code(&error) == NO_LOCK => 0,
            days => days?.and_then(|days| days.as_u64()).unwrap_or(0),
        };
        let last = Utc::now().checked_add_days(Days::new(days));
        let locked = match days {
            0 => String::new(),
            _ => format!(
                "locked until {} at the latest, then ",
                last.unwrap_or_default().format(DAY)
            ),
        };
        lines.push(format!(
            "bucket {bucket}: 0.03 USD a month for each GB, {locked}until `aws s3 rb --force \
             s3://{bucket}`"
        ));
    }
    Ok(lines)
}

fn log_groups(deployment: &Deployment, commands: &Commands) -> Result<Vec<String>> {
    let ours = format!(
        "logGroups[?contains(logGroupName, '/{}')].logGroupName",
        deployment.name("")
    );
    let list = Line::aws(["logs", "describe-log-groups", "--query", ours.as_str()]);
    let groups = texts(json(commands, &list)?).into_iter();
    Ok(groups
        .map(|group| {
            format!(
                "log group {group}: 0.03 USD a month for each GB, until `aws logs \
                 delete-log-group --log-group-name {group}`"
            )
        })
        .collect())
}

/// The role is the region's setting for all of its APIs.
fn api_logs(deployment: &Deployment, commands: &Commands) -> Result<Option<String>> {
    let role = Line::aws(["apigateway", "get-account", "--query", "cloudwatchRoleArn"]);
    let role = json(commands, &role)?.unwrap_or_default();
    let role = role.as_str().unwrap_or_default();
    Ok(role.contains(&deployment.base_stack()).then(|| {
        format!("role {role}: API Gateway writes the logs of this region's APIs as it; no cost")
    }))
}

fn texts(list: Option<Value>) -> Vec<String> {
    let list = list.unwrap_or_default();
    let texts = list.as_array().into_iter().flatten();
    texts.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Version 1 of `aws` writes seconds, version 2 writes text.
fn day(date: &Value) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "a date of this century")]
    let seconds = date.as_f64().map(|seconds| seconds as i64);
    let parsed = match seconds {
        Some(seconds) => DateTime::from_timestamp(seconds, 0),
        None => date.as_str().and_then(|text| text.parse().ok()),
    };
    parsed.map_or_else(|| date.to_string(), |date| date.format(DAY).to_string())
}

/// AWS's code for a bucket without Object Lock.
const NO_LOCK: &str = "ObjectLockConfigurationNotFoundError";
const DAY: &str = "%Y-%m-%d";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_dates_are_read() {
        assert_eq!(day(&Value::from(1_800_000_000.5)), "2027-01-15");
        assert_eq!(
            day(&Value::from("2027-01-15T09:00:00.123000+01:00")),
            "2027-01-15"
        );
    }
}
