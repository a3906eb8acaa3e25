//! A key policy of the closed subset, parsed.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::{condition::Condition, strict_json};

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
    /// Everybody in an account, as the start of their ARNs: `arn:aws:iam::111122223333:`.
    Account(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource {
    Any,
    Key(String),
}

/// Why a policy, or a request, cannot be decided.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not JSON, or a member is given twice.
    #[error("the policy is not strict JSON")]
    Json(#[source] serde_json::Error),
    /// The policy holds something outside the closed subset.
    #[error("the policy holds at `{at}`: {problem}")]
    Unsupported {
        /// JSON pointer.
        at: String,
        /// What is there.
        problem: &'static str,
    },
    /// The request's principal is not an IAM ARN of its account.
    #[error("`{0}` is not an IAM principal of the request's account")]
    Principal(String),
    /// The request's context holds a key that KMS does not set, or that the evaluator sets itself.
    #[error("the request's context cannot hold `{0}`")]
    ContextKey(String),
    /// The request's context gives one key several values.
    #[error("the request's context holds several values for `{0}`")]
    ManyValues(String),
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
    let principal = |text: String| {
        let account = text
            .strip_suffix("root")
            .filter(|account| is_account_prefix(account));
        match account {
            _ if text == "*" => Ok(Principal::Anybody),
            Some(account) => Ok(Principal::Account(account.to_owned())),
            None => Err(unsupported(
                at,
                "a principal that is neither `*` nor an account",
            )),
        }
    };
    strings(members.get("AWS").unwrap_or(&Value::Null), at)?
        .into_iter()
        .map(principal)
        .collect()
}

/// Whether `text` is the start of an account's IAM ARNs: `arn:aws:iam::111122223333:`.
pub(crate) fn is_account_prefix(text: &str) -> bool {
    let parts: Vec<_> = text.split(':').collect();
    let ["arn", partition, "iam", "", account, ""] = parts[..] else {
        return false;
    };
    !partition.is_empty()
        && partition
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
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

/// A string, or a list of at least one.
pub(crate) fn strings(value: &Value, at: &str) -> Result<Vec<String>, PolicyError> {
    let refused = || unsupported(at, "something else than a string or a list of strings");
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(refused))
            .collect(),
        _ => Err(refused()),
    }
}

fn object<'a>(
    value: &'a Value,
    at: &str,
    known: &[&str],
) -> Result<&'a Map<String, Value>, PolicyError> {
    let members = value
        .as_object()
        .ok_or_else(|| unsupported(at, "something else than an object"))?;
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(unsupported(
            &format!("{}/{name}", at.trim_end_matches('/')),
            "a member outside the subset",
        )),
        None => Ok(members),
    }
}

fn unsupported(at: &str, problem: &'static str) -> PolicyError {
    PolicyError::Unsupported {
        at: at.to_owned(),
        problem,
    }
}
