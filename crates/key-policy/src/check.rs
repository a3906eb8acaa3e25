//! Checks that a policy is exactly a rendering of the measured template, before a key is adopted.

use serde_json::Value;

use crate::deployment::{Deployment, Form, Measurements, NextRelease};
use crate::error::RenderError;
use crate::pcr0::{InvalidPcr0, Pcr0};
use crate::render::render_value;
use crate::strict_json;

/// The facts about the policy that the asking enclave knows.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The measured deployment.
    pub deployment: &'a Deployment,
    /// PCR0 of the signer.
    pub signer: Pcr0,
    /// PCR0 of the key generator; `None` in the signer, which is built first and cannot know it:
    /// any well-formed one is then read out of the policy.
    pub generator: Option<Pcr0>,
    /// The open form is acceptable.
    pub accept_open: bool,
}

/// A policy that is a rendering of the template. Only [`check`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckedPolicy {
    /// The form: replaceable or not.
    pub form: Form,
    /// The images that the policy admits. What the asking enclave does not know of (another
    /// release's, and in the signer the generator's) comes from the policy itself.
    pub measurements: Measurements,
}

/// Compares a key policy, as KMS returned it, with the rendering of the template.
///
/// The comparison is of parsed JSON: member order and white space do not count, everything else
/// does, duplicate members included.
///
/// # Errors
/// [`PolicyMismatch`], which names the first difference.
pub fn check(policy: &str, expected: &Expected<'_>) -> Result<CheckedPolicy, PolicyMismatch> {
    let policy = strict_json::parse(policy).map_err(PolicyMismatch::Json)?;

    let form = if statement(&policy, "Frozen").is_some() {
        Form::Locked
    } else {
        Form::Open
    };
    let measurements = measurements(&policy, expected)?;
    let rendered = render_value(expected.deployment, &measurements, form)?;
    if let Some(at) = first_difference(&rendered, &policy, "") {
        return Err(PolicyMismatch::Differs { at });
    }
    // Checked last, so that a policy of neither form is reported by its difference.
    if form == Form::Open && !expected.accept_open {
        return Err(PolicyMismatch::Open);
    }
    Ok(CheckedPolicy { form, measurements })
}

/// A difference between a policy and the template.
#[derive(Debug, thiserror::Error)]
pub enum PolicyMismatch {
    /// Not JSON, or with a duplicate member.
    #[error("the key policy is not strict JSON")]
    Json(#[source] serde_json::Error),
    /// A statement is missing.
    #[error("the key policy has no statement `{0}` with a measurement")]
    Missing(&'static str),
    /// Invalid measurement, or zeros.
    #[error("the key policy's statement `{statement}` admits no usable measurement")]
    Measurement {
        /// The statement's Sid.
        statement: &'static str,
        /// The cause.
        #[source]
        source: InvalidPcr0,
    },
    /// The deployment and the measurements admit no policy.
    #[error("no key policy is right for this deployment and these measurements")]
    Render(#[from] RenderError),
    /// The policy is not equal to the rendering.
    #[error("the key policy differs from the template at `{at}`")]
    Differs {
        /// JSON pointer of the first difference.
        at: String,
    },
    /// The policy is the open form, and this enclave accepts the locked one only.
    #[error("the key policy can still be replaced")]
    Open,
}

/// The images that the policy admits, with the asking enclave's own release in the slots where it must be.
fn measurements(policy: &Value, expected: &Expected<'_>) -> Result<Measurements, PolicyMismatch> {
    let next = match (
        admitted(policy, "NextSigner")?,
        admitted(policy, "NextGenerator")?,
    ) {
        (Some(signer), Some(generator)) => Some(NextRelease { signer, generator }),
        (None, None) => None,
        (Some(_), None) => return Err(PolicyMismatch::Missing("NextGenerator")),
        (None, Some(_)) => return Err(PolicyMismatch::Missing("NextSigner")),
    };
    let previous_generator = admitted(policy, "Previous")?;
    // A signer that both releases have may take either slot for its own.
    let ours = |next: &NextRelease| {
        next.signer == expected.signer
            && expected
                .generator
                .is_none_or(|generator| next.generator == generator)
    };
    let (signer, generator) = match (next.as_ref().is_some_and(ours), expected.generator) {
        (false, Some(generator)) => (expected.signer, generator),
        (false, None) => (expected.signer, required(policy, "Generator")?),
        (true, _) => (required(policy, "Signer")?, required(policy, "Generator")?),
    };
    Ok(Measurements {
        signer,
        generator,
        previous_generator,
        next,
    })
}

fn required(policy: &Value, sid: &'static str) -> Result<Pcr0, PolicyMismatch> {
    admitted(policy, sid)?.ok_or(PolicyMismatch::Missing(sid))
}

/// The measurement that the statement `sid` admits; `None` without such a statement.
fn admitted(policy: &Value, sid: &'static str) -> Result<Option<Pcr0>, PolicyMismatch> {
    let Some(statement) = statement(policy, sid) else {
        return Ok(None);
    };
    let condition =
        &statement["Condition"]["StringEqualsIgnoreCase"]["kms:RecipientAttestation:ImageSha384"];
    let pcr0 = condition.as_str().ok_or(PolicyMismatch::Missing(sid))?;
    pcr0.parse()
        .map(Some)
        .map_err(|source| PolicyMismatch::Measurement {
            statement: sid,
            source,
        })
}

fn statement<'a>(policy: &'a Value, sid: &str) -> Option<&'a Value> {
    policy["Statement"]
        .as_array()?
        .iter()
        .find(|statement| statement["Sid"] == sid)
}

/// JSON pointer of the first place where the two differ.
fn first_difference(expected: &Value, found: &Value, at: &str) -> Option<String> {
    let below = |name: &str| format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected
            .iter()
            .find_map(|(name, value)| match found.get(name) {
                Some(other) => first_difference(value, other, &below(name)),
                None => Some(below(name)),
            })
            .or_else(|| {
                found
                    .keys()
                    .find(|name| !expected.contains_key(*name))
                    .map(|name| below(name))
            }),
        (Value::Array(expected), Value::Array(found)) => {
            let common = expected.iter().zip(found).enumerate();
            common
                .filter_map(|(index, (value, other))| {
                    first_difference(value, other, &format!("{at}/{index}"))
                })
                .next()
                .or_else(|| {
                    (expected.len() != found.len())
                        .then(|| format!("{at}/{}", expected.len().min(found.len())))
                })
        }
        _ => (expected != found).then(|| {
            if at.is_empty() {
                "/".to_owned()
            } else {
                at.to_owned()
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let expected = json!({"a": [1, {"b/c": 2}], "d": 3});
        for (found, at) in [
            (json!({"a": [1, {"b/c": 2}], "d": 3}), None),
            (json!({"a": [1, {"b/c": 4}], "d": 3}), Some("/a/1/b~1c")),
            (json!({"a": [1], "d": 3}), Some("/a/1")),
            (json!({"a": [1, {"b/c": 2}, 5], "d": 3}), Some("/a/2")),
            (json!({"a": [1, {"b/c": 2}]}), Some("/d")),
            (json!({"a": [1, {"b/c": 2}], "d": 3, "e": 4}), Some("/e")),
            (json!([]), Some("/")),
        ] {
            assert_eq!(
                first_difference(&expected, &found, "").as_deref(),
                at,
                "{found}"
            );
        }
    }
}
