//! The template, and its rendering for one deployment and one set of measurements.

use serde_json::{Map, Value};

use crate::{Pcr0, strict_json};

/// Whose key it is: the account and the roles that the policy names. Role ARNs are
/// `arn:PARTITION:iam::ACCOUNT:role/[path/]name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// Twelve digits.
    pub account: String,
    /// The region of the key. The policy does not name it; whoever adopts a key compares it with
    /// the key's ARN.
    pub region: String,
    /// The role of the signer's pods.
    pub signer_role: String,
    /// The role of the key-generator's pods.
    pub generator_role: String,
    /// The only role that may schedule the key's deletion.
    pub retirement_role: String,
    /// The role that may replace the policy, in the open form only.
    pub administrator_role: String,
}

/// Which images the key answers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurements {
    /// PCR0 of the signer.
    pub signer: Pcr0,
    /// PCR0 of the key generator.
    pub generator: Pcr0,
    /// PCR0 of the release before's key generator, which seals for both keys while a hand-over
    /// lasts.
    pub previous_generator: Option<Pcr0>,
    /// The release that is about to replace this one: both are admitted while the enclaves are
    /// exchanged. The open form only.
    pub next: Option<NextRelease>,
}

/// The images of the next release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextRelease {
    /// PCR0 of its signer; the present one's when that did not change.
    pub signer: Pcr0,
    /// PCR0 of its key generator.
    pub generator: Pcr0,
}

impl Measurements {
    /// Of one release alone.
    pub fn new(signer: Pcr0, generator: Pcr0) -> Self {
        Self {
            signer,
            generator,
            previous_generator: None,
            next: None,
        }
    }
}

/// Whether the policy can still be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The administrator role may replace the policy.
    Open,
    /// Nobody may replace the policy.
    Locked,
}

/// Renders the template to the JSON text of a key policy.
///
/// # Errors
/// [`RenderError`] for a deployment that would not mean what it says: a malformed account, a role
/// of another account or with wildcards, or one image in two slots.
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
        .expect("a placeholder without a value stands in statements only, and the list of statements drops those"))
}

/// Why a deployment cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The partition is empty or holds something else than lower-case letters and hyphens.
    #[error("`{0}` is not an AWS partition")]
    Partition(String),
    /// The account is not twelve digits.
    #[error("`{0}` is not an AWS account id")]
    Account(String),
    /// Not the exact ARN of a role in the deployment's account.
    #[error("`{0}` is not the ARN of a role in the deployment's own account")]
    Role(String),
    /// Two slots of the policy hold the same image, which would give it the rights of both.
    #[error("the {0} and the {1} have the same PCR0")]
    SameImage(&'static str, &'static str),
    /// Nobody could remove the present release from the policy any more.
    #[error("the locked form admits one release only")]
    NextInLockedForm,
    /// The template asks for something this code does not know.
    #[error("the template holds the unknown placeholder `{0}`")]
    Placeholder(String),
}

/// A wildcard or a policy variable in a value would be *interpreted* by IAM.
fn refuse_ambiguity(
    deployment: &Deployment,
    measurements: &Measurements,
) -> Result<(), RenderError> {
    let Deployment {
        partition, account, ..
    } = deployment;
    if partition.is_empty()
        || !partition
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    {
        return Err(RenderError::Partition(partition.clone()));
    }
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(RenderError::Account(account.clone()));
    }

    let roles = format!("arn:{partition}:iam::{account}:role/");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&byte);
    for role in [
        &deployment.signer_role,
        &deployment.generator_role,
        &deployment.retirement_role,
        &deployment.administrator_role,
    ] {
        let name = role
            .strip_prefix(&roles)
            .ok_or_else(|| RenderError::Role(role.clone()))?;
        if name.is_empty() || name.ends_with('/') || !name.bytes().all(plain) {
            return Err(RenderError::Role(role.clone()));
        }
    }

    let Measurements {
        signer,
        generator,
        previous_generator,
        next,
    } = *measurements;
    let slots = [
        ("signer", Some(signer)),
        ("key generator", Some(generator)),
        ("previous key generator", previous_generator),
        (NEXT_SIGNER, next.map(|next| next.signer)),
        ("next key generator", next.map(|next| next.generator)),
    ];
    for (index, (one, pcr0)) in slots.iter().enumerate() {
        for (other, same) in &slots[..index] {
            // A signer may stay what it is from one release to the next: it has the same rights in
            // both slots.
            if pcr0.is_some() && pcr0 == same && (*other, *one) != ("signer", NEXT_SIGNER) {
                return Err(RenderError::SameImage(other, one));
            }
        }
    }
    Ok(())
}

const NEXT_SIGNER: &str = "next signer";

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

/// `value` with its placeholders replaced; `None` when one has no value. A list drops such items.
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
