//! A key policy of the closed subset, parsed.

use std::str::FromStr;

use cloister_contract::Arn;
use serde_json::Value;

use crate::condition::Condition;
use crate::error::PolicyError;
use crate::strict_json;
use crate::values::{object, strings, unsupported};

/// A parsed key policy. Parsing refuses whatever [`evaluate`](crate::evaluate()) could not decide.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(crate) statements: Vec<Statement>,
}

#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sid: String,
    pub(crate) effect: Effect,
    pub(crate) principals: Vec<Principal>,
    /// Patterns such as `kms:generatedatakey*`, lower case: IAM compares actions without regard to
    /// case.
    pub(crate) actions: Vec<String>,
    pub(crate) resources: Vec<Resource>,
    /// All of them must hold.
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Principal {
    Anybody,
    /// Every principal of an account, as the start of their ARNs: `arn:aws:iam::111122223333:`.
    Account(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource {
    Any,
    Key(String),
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let policy = strict_json::parse(text).map_err(PolicyError::Json)?;
        let members = object(&policy, "/", &["Version", "Id", "Statement"])?;
        // The older version has other rules for `${…}`.
        if members.get("Version").and_then(Value::as_str) != Some("2012-10-17") {
            return Err(unsupported("/Version", "another version than 2012-10-17"));
        }
        let statements = members
            .get("Statement")
            .and_then(Value::as_array)
            .ok_or_else(|| unsupported("/Statement", "something else than a list"))?;
        let statements: Vec<_> = statements
            .iter()
            .enumerate()
            .map(|(index, value)| Statement::parse(value, index))
            .collect::<Result<_, _>>()?;
        for (index, statement) in statements.iter().enumerate() {
            if statements[..index]
                .iter()
                .any(|earlier| earlier.sid == statement.sid)
            {
                return Err(unsupported(
                    &format!("/Statement/{index}/Sid"),
                    "a Sid given twice",
                ));
            }
        }
        Ok(Self { statements })
    }
}

impl Statement {
    fn parse(value: &Value, index: usize) -> Result<Self, PolicyError> {
        let at = format!("/Statement/{index}");
        let members = object(
            value,
            &at,
            &[
                "Sid",
                "Effect",
                "Principal",
                "Action",
                "Resource",
                "Condition",
            ],
        )?;
        let member = |name: &str| members.get(name).unwrap_or(&Value::Null);
        Ok(Self {
            sid: match members.get("Sid") {
                None => format!("statement {index}"),
                Some(Value::String(sid)) if !sid.is_empty() => sid.clone(),
                Some(_) => {
                    return Err(unsupported(
                        &format!("{at}/Sid"),
                        "something else than a name",
                    ));
                }
            },
            effect: match member("Effect").as_str() {
                Some("Allow") => Effect::Allow,
                Some("Deny") => Effect::Deny,
                _ => {
                    return Err(unsupported(
                        &format!("{at}/Effect"),
                        "neither Allow nor Deny",
                    ));
                }
            },
            principals: principals(member("Principal"), &format!("{at}/Principal"))?,
            actions: actions(member("Action"), &format!("{at}/Action"))?,
            resources: resources(member("Resource"), &format!("{at}/Resource"))?,
            conditions: match members.get("Condition") {
                Some(condition) => Condition::parse_all(condition, &format!("{at}/Condition"))?,
                None => Vec::new(),
            },
        })
    }
}

fn principals(value: &Value, at: &str) -> Result<Vec<Principal>, PolicyError> {
    if value == "*" {
        return Ok(vec![Principal::Anybody]);
    }
    let members = object(value, at, &["AWS"])?;
    let principal = |text: String| match account_prefix(&text) {
        _ if text == "*" => Ok(Principal::Anybody),
        Some(account) => Ok(Principal::Account(account)),
        None => Err(unsupported(
            at,
            "a principal that is neither `*` nor an account",
        )),
    };
    strings(members.get("AWS").unwrap_or(&Value::Null), at)?
        .into_iter()
        .map(principal)
        .collect()
}

/// The start of an account's IAM ARNs, `arn:aws:iam::111122223333:`, from that of its root.
fn account_prefix(root: &str) -> Option<String> {
    let arn: Arn = root.parse().ok()?;
    let account = arn.service() == "iam" && arn.region().is_none() && arn.account().is_some();
    let prefix = root.strip_suffix("root")?;
    (account && arn.resource() == "root").then(|| prefix.to_owned())
}

fn actions(value: &Value, at: &str) -> Result<Vec<String>, PolicyError> {
    let action = |text: String| {
        let name = text.strip_prefix("kms:");
        let plain = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphabetic() || byte == b'*')
        };
        if name.is_some_and(plain) {
            Ok(text.to_ascii_lowercase())
        } else {
            Err(unsupported(at, "an action that is not KMS's"))
        }
    };
    strings(value, at)?.into_iter().map(action).collect()
}

fn resources(value: &Value, at: &str) -> Result<Vec<Resource>, PolicyError> {
    let resource = |text: String| match text.as_str() {
        "*" => Ok(Resource::Any),
        arn if arn.starts_with("arn:") && !arn.contains(['*', '?', '$']) => Ok(Resource::Key(text)),
        _ => Err(unsupported(
            at,
            "a resource that is neither `*` nor one ARN",
        )),
    };
    strings(value, at)?.into_iter().map(resource).collect()
}
