//! The vectors in `tests/vectors/key-policy`, one file per case. Other languages read the same
//! files.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::{collections::BTreeMap, fs, path::Path};

use cloister_key_policy::{
    Decision, Deployment, Expected, Form, KmsRequest, Measurements, NextRelease, Pcr0,
    PolicyMismatch, check, evaluate, render,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenderCase {
    name: String,
    #[serde(rename = "source")]
    _source: String,
    deployment: DeploymentFields,
    measurements: MeasurementFields,
    form: String,
    policy: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EvaluateCase {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "why", default)]
    _why: String,
    /// The name of a render case, or a policy of its own.
    policy: Value,
    request: RequestFields,
    expect: Verdict,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefuseCase {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "why", default)]
    _why: String,
    deployment: DeploymentFields,
    signer: Pcr0,
    generator: Option<Pcr0>,
    accept_open: bool,
    policy_text: String,
    error: String,
    at: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeploymentFields {
    partition: String,
    account: String,
    region: String,
    signer_role: String,
    generator_role: String,
    retirement_role: String,
    administrator_role: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MeasurementFields {
    signer: Pcr0,
    generator: Pcr0,
    previous_generator: Option<Pcr0>,
    next: Option<NextFields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NextFields {
    signer: Pcr0,
    generator: Pcr0,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestFields {
    principal_arn: String,
    account: String,
    action: String,
    context: BTreeMap<String, String>,
}

/// Changes that the canary notices; its own tests read the members that are left out here.
#[derive(Deserialize)]
struct Notices {
    policy: String,
    /// The call of the key generator's pod without an enclave.
    probe: RequestFields,
    policies: Vec<NoticedPolicy>,
}

#[derive(Deserialize)]
struct NoticedPolicy {
    name: String,
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    replace: Vec<Value>,
    #[serde(default)]
    add: Vec<Value>,
    missing: Vec<String>,
    unexpected: Vec<String>,
    admits: Option<RequestFields>,
    /// The probe would get a data key.
    #[serde(default)]
    releases: bool,
    /// A change of the text, about which the evaluator is not asked.
    edit: Option<Value>,
}

impl NoticedPolicy {
    fn changed(&self, deployed: &Value) -> Value {
        let statements = deployed["Statement"].as_array().unwrap().iter();
        let kept = statements
            .filter(|statement| self.without.iter().all(|sid| statement["Sid"] != **sid))
            .map(|statement| {
                let mut replacements = self.replace.iter();
                replacements
                    .find(|replacement| replacement["Sid"] == statement["Sid"])
                    .unwrap_or(statement)
            });
        let mut changed = deployed.clone();
        changed["Statement"] = kept.chain(&self.add).cloned().collect();
        changed
    }
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Allow(String),
    ImplicitDeny,
    ExplicitDeny(String),
    Error,
}

#[test]
fn renders() {
    for (file, case) in cases::<RenderCase>("render") {
        assert_eq!(file, case.name);
        let (deployment, measurements) = (case.deployment.into(), case.measurements.into());
        let form = if case.form == "open" {
            Form::Open
        } else {
            Form::Locked
        };
        let text = render(&deployment, &measurements, form).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            case.policy,
            "{file}"
        );

        let mut asking = vec![(measurements.signer, measurements.generator)];
        asking.extend(measurements.next.map(|next| (next.signer, next.generator)));
        for (signer, generator) in asking
            .into_iter()
            .flat_map(|(signer, g)| [(signer, None), (signer, Some(g))])
        {
            let expected = Expected {
                deployment: &deployment,
                signer,
                generator,
                accept_open: true,
            };
            let checked = check(&text, &expected).unwrap();
            assert_eq!(
                (checked.form, checked.measurements),
                (form, measurements),
                "{file}"
            );
            // As KMS may lay it out.
            assert_eq!(
                check(
                    &serde_json::to_string_pretty(&case.policy).unwrap(),
                    &expected
                )
                .unwrap(),
                checked
            );
        }
    }
}

#[test]
fn truth_table() {
    let rendered: BTreeMap<String, Value> = cases::<RenderCase>("render")
        .into_iter()
        .map(|(file, case)| (file, case.policy))
        .collect();
    for (file, case) in cases::<EvaluateCase>("evaluate") {
        let policy = case
            .policy
            .as_str()
            .map_or(&case.policy, |name| &rendered[name]);
        let request = KmsRequest::from(case.request);
        let verdict = match evaluate(&policy.to_string(), &request) {
            Ok(Decision::Allow(sid)) => Verdict::Allow(sid),
            Ok(Decision::ImplicitDeny) => Verdict::ImplicitDeny,
            Ok(Decision::ExplicitDeny(sid)) => Verdict::ExplicitDeny(sid),
            Err(_) => Verdict::Error,
        };
        assert_eq!(verdict, case.expect, "{file}");
    }
}

#[test]
fn the_canary_notices_what_opens_the_key() {
    let rendered: BTreeMap<String, Value> = cases::<RenderCase>("render")
        .into_iter()
        .map(|(file, case)| (file, case.policy))
        .collect();
    let Notices {
        policy, policies, ..
    } = notices();
    let deployed = &rendered[&policy];
    let mut opening = 0;
    for case in policies {
        let changed = case.changed(deployed);
        let Some(admits) = case.admits else { continue };
        let request = KmsRequest::from(admits);
        let allowed = |policy: &Value| {
            matches!(
                evaluate(&policy.to_string(), &request),
                Ok(Decision::Allow(_))
            )
        };
        assert!(!allowed(deployed) && allowed(&changed), "{}", case.name);
        assert!(
            !(case.missing.is_empty() && case.unexpected.is_empty()),
            "{}",
            case.name
        );
        opening += 1;
    }
    assert!(opening > 8);
}

/// The role of the pod that probes is admitted, so that nothing but the image stops it: neither the
/// Allow nor the Deny alone lets it through when the other one is gone.
#[test]
fn the_probe_gets_a_key_only_if_no_statement_asks_for_an_image() {
    let rendered: BTreeMap<String, Value> = cases::<RenderCase>("render")
        .into_iter()
        .map(|(file, case)| (file, case.policy))
        .collect();
    let Notices {
        policy,
        probe,
        policies,
    } = notices();
    let deployed = &rendered[&policy];
    let released = |policy: &Value, request: &KmsRequest| {
        matches!(
            evaluate(&policy.to_string(), request),
            Ok(Decision::Allow(_))
        )
    };
    let probe = KmsRequest::from(probe);
    for rendering in rendered.values() {
        assert!(!released(rendering, &probe));
    }
    // The image is the only thing that is missing.
    let Decision::ExplicitDeny(sid) = evaluate(&deployed.to_string(), &probe).unwrap() else {
        panic!("the probe is denied explicitly");
    };
    assert_eq!(sid, "Attested");
    let mut attested = probe.clone();
    attested.context.insert(
        "kms:RecipientAttestation:ImageSha384".to_owned(),
        vec![generator_image(deployed)],
    );
    assert!(released(deployed, &attested));

    let (mut releasing, mut denying) = (0, 0);
    for case in policies.iter().filter(|case| case.edit.is_none()) {
        let changed = case.changed(deployed);
        assert_eq!(released(&changed, &probe), case.releases, "{}", case.name);
        if case.releases {
            releasing += 1;
        } else {
            denying += 1;
        }
    }
    assert!(releasing > 3 && denying > 20);
}

fn generator_image(policy: &Value) -> String {
    let mut statements = policy["Statement"].as_array().unwrap().iter();
    let generator = statements.find(|statement| statement["Sid"] == "Generator");
    let condition = &generator.unwrap()["Condition"]["StringEqualsIgnoreCase"];
    condition["kms:RecipientAttestation:ImageSha384"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn notices() -> Notices {
    serde_json::from_str(include_str!(
        "../../../tests/vectors/key-policy/canary-notices.json"
    ))
    .unwrap()
}

#[test]
fn refusals() {
    for (file, case) in cases::<RefuseCase>("refuse") {
        let deployment = case.deployment.into();
        let expected = Expected {
            deployment: &deployment,
            signer: case.signer,
            generator: case.generator,
            accept_open: case.accept_open,
        };
        let mismatch = check(&case.policy_text, &expected).unwrap_err();
        let (error, at) = match &mismatch {
            PolicyMismatch::Json(_) => ("json", None),
            PolicyMismatch::Missing(_) => ("missing", None),
            PolicyMismatch::Measurement { .. } => ("measurement", None),
            PolicyMismatch::Render(_) => ("render", None),
            PolicyMismatch::Differs { at } => ("differs", Some(at.as_str())),
            PolicyMismatch::Open => ("open", None),
        };
        assert_eq!(
            (error, at),
            (case.error.as_str(), case.at.as_deref()),
            "{file}: {mismatch}"
        );
    }
}

fn cases<T: DeserializeOwned>(kind: &str) -> Vec<(String, T)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors/key-policy")
        .join(kind);
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let read = |file: &Path| {
        let case = serde_json::from_slice(&fs::read(file).unwrap());
        (
            file.file_stem().unwrap().to_str().unwrap().to_owned(),
            case.unwrap_or_else(|e| panic!("{}: {e}", file.display())),
        )
    };
    files.iter().map(|file| read(file)).collect()
}

impl From<RequestFields> for KmsRequest {
    fn from(fields: RequestFields) -> Self {
        let RequestFields {
            principal_arn,
            account,
            action,
            context,
        } = fields;
        Self {
            principal_arn,
            resource: format!(
                "arn:aws:kms:eu-central-1:{account}:key/3c0e3a1e-6d5f-4b2b-9d6e-2f1d3f0a7f11"
            ),
            account,
            action,
            context: context
                .into_iter()
                .map(|(key, value)| (key, vec![value]))
                .collect(),
        }
    }
}

impl From<DeploymentFields> for Deployment {
    fn from(fields: DeploymentFields) -> Self {
        let DeploymentFields {
            partition,
            account,
            region,
            signer_role,
            generator_role,
            retirement_role,
            administrator_role,
        } = fields;
        Self {
            partition,
            account,
            region,
            signer_role,
            generator_role,
            retirement_role,
            administrator_role,
        }
    }
}

impl From<MeasurementFields> for Measurements {
    fn from(fields: MeasurementFields) -> Self {
        let MeasurementFields {
            signer,
            generator,
            previous_generator,
            next,
        } = fields;
        let next = next.map(|NextFields { signer, generator }| NextRelease { signer, generator });
        Self {
            signer,
            generator,
            previous_generator,
            next,
        }
    }
}
