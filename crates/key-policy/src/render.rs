//! Renders the template for one deployment and one set of measurements.

use serde_json::{Map, Value};

use crate::deployment::{Deployment, Form, Measurements, refuse_ambiguity};
use crate::error::RenderError;
use crate::strict_json;

/// Renders the template to the JSON text of a key policy.
///
/// # Errors
/// [`RenderError`] for an ambiguous deployment: a malformed account, a role of another account or
/// with wildcards, or one image in two slots.
pub fn render(
    deployment: &Deployment,
    measurements: &Measurements,
    form: Form,
) -> Result<String, RenderError> {
    render_value(deployment, measurements, form).map(|policy| policy.to_string())
}

pub(crate) fn render_value(
    deployment: &Deployment,
    measurements: &Measurements,
    form: Form,
) -> Result<Value, RenderError> {
    refuse_ambiguity(deployment, measurements)?;
    if form == Form::Locked && measurements.next.is_some() {
        return Err(RenderError::NextInLockedForm);
    }

    let mut template = template();
    let absent = match form {
        Form::Open => "Frozen",
        Form::Locked => "Administrator",
    };
    if let Some(statements) = template["Statement"].as_array_mut() {
        statements.retain(|statement| statement["Sid"] != absent);
    }
    let rendered = fill(&template, &|name| {
        placeholder(name, deployment, measurements)
    })?;
    Ok(rendered
        .expect("only statements have placeholders without a value, and the list drops those"))
}

fn placeholder(
    name: &str,
    deployment: &Deployment,
    measurements: &Measurements,
) -> Result<Option<String>, RenderError> {
    Ok(Some(match name {
        "PARTITION" => deployment.partition.clone(),
        "ACCOUNT" => deployment.account.clone(),
        "SIGNER_ROLE" => deployment.signer_role.clone(),
        "GENERATOR_ROLE" => deployment.generator_role.clone(),
        "RETIREMENT_ROLE" => deployment.retirement_role.clone(),
        "ADMINISTRATOR_ROLE" => deployment.administrator_role.clone(),
        "SIGNER_PCR0" => measurements.signer.to_string(),
        "GENERATOR_PCR0" => measurements.generator.to_string(),
        "PREVIOUS_GENERATOR_PCR0" => {
            return Ok(measurements.previous_generator.map(|pcr0| pcr0.to_string()));
        }
        "NEXT_SIGNER_PCR0" => return Ok(measurements.next.map(|next| next.signer.to_string())),
        "NEXT_GENERATOR_PCR0" => {
            return Ok(measurements.next.map(|next| next.generator.to_string()));
        }
        unknown => return Err(RenderError::Placeholder(unknown.to_owned())),
    }))
}

/// `value` with its placeholders replaced; `None` if one has no value. A list drops such items.
fn fill<F>(value: &Value, lookup: &F) -> Result<Option<Value>, RenderError>
where
    F: Fn(&str) -> Result<Option<String>, RenderError>,
{
    match value {
        Value::String(text) => Ok(fill_text(text, lookup)?.map(Value::String)),
        Value::Array(items) => {
            let filled: Result<Vec<_>, _> = items
                .iter()
                .filter_map(|item| fill(item, lookup).transpose())
                .collect();
            Ok(Some(Value::Array(filled?)))
        }
        Value::Object(members) => {
            let mut filled = Map::new();
            for (name, member) in members {
                match fill(member, lookup)? {
                    Some(member) => filled.insert(name.clone(), member),
                    None => return Ok(None),
                };
            }
            Ok(Some(Value::Object(filled)))
        }
        other => Ok(Some(other.clone())),
    }
}

fn fill_text<F>(text: &str, lookup: &F) -> Result<Option<String>, RenderError>
where
    F: Fn(&str) -> Result<Option<String>, RenderError>,
{
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after
            .split_once('}')
            .ok_or_else(|| RenderError::Placeholder(after.to_owned()))?;
        let Some(value) = lookup(name)? else {
            return Ok(None);
        };
        filled.push_str(before);
        filled.push_str(&value);
        rest = behind;
    }
    filled.push_str(rest);
    Ok(Some(filled))
}

fn template() -> Value {
    const TEMPLATE: &str = include_str!("../../../cdk/policies/key-policy.json");
    strict_json::parse(TEMPLATE).expect("the template is part of this build and its tests parse it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_filled_or_dropped() {
        let lookup = |name: &str| Ok((name != "NONE").then(|| name.to_lowercase()));
        assert_eq!(
            fill_text("a${B}c${D}", &lookup),
            Ok(Some("abcd".to_owned()))
        );
        assert_eq!(fill_text("a${NONE}", &lookup), Ok(None));
        assert!(fill_text("a${B", &lookup).is_err());
        let list = serde_json::json!(["${NONE}", {"x": "${NONE}"}, "${A}"]);
        assert_eq!(fill(&list, &lookup), Ok(Some(serde_json::json!(["a"]))));
    }
}
