//! Reads JSON values of a policy.

use serde_json::{Map, Value};

use crate::error::PolicyError;

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

pub(crate) fn object<'a>(
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

pub(crate) fn unsupported(at: &str, problem: &'static str) -> PolicyError {
    PolicyError::Unsupported {
        at: at.to_owned(),
        problem,
    }
}
