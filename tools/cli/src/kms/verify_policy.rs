//! `cloister kms verify-policy`: compares a key policy with a release, and lists its permissions.

mod grantee;
mod permissions;
mod report;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use cloister_contract::ErrorChain;
use cloister_key_policy::{Expected, Form, Policy, check};
use serde::Serialize;

use self::permissions::{Permissions, other_principals};
use self::report::{form_name, text};
use super::live::{self, LiveKey};
use super::release::{Release, ReleaseFiles};
use super::table::{Place, Table};
use crate::answer::Answer;
use crate::failure::Failure;
use crate::options::Common;

#[derive(Args, Debug)]
pub(crate) struct Command {
    #[command(flatten)]
    release: ReleaseFiles,
    #[command(flatten)]
    what: What,
    /// KMS endpoint other than AWS's
    #[arg(long, value_name = "URL", conflicts_with = "policy")]
    endpoint_url: Option<String>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct What {
    /// File with a key policy
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// ARN of a key, read from KMS together with its description and grants
    #[arg(long, value_name = "ARN")]
    key: Option<String>,
}

/// The result of the comparison.
#[derive(Debug, Serialize)]
struct Verdict {
    /// The policy is exactly a rendering for this release, and enclaves accept the key.
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// `open` or `locked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    form: Option<&'static str>,
    /// Differences from a rendering, and properties that enclaves refuse.
    problems: Vec<String>,
    /// Permissions that the template does not have, or that are missing.
    departures: Vec<String>,
    /// Permissions under the current policy.
    today: Vec<Ability>,
    /// Ways to change these permissions.
    by_a_change: Vec<String>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Ability {
    may: &'static str,
    who: Vec<String>,
}

pub(crate) async fn run(command: &Command, common: &Common) -> Result<Answer, Failure> {
    let release = command.release.read()?;
    let verdict = match (&command.what.policy, &command.what.key) {
        (Some(file), _) => {
            let policy = fs::read_to_string(file).map_err(|error| {
                Failure::Input(format!("{} cannot be read: {error}", file.display()))
            })?;
            verdict(&policy, &release)
        }
        (None, Some(arn)) => {
            let client = live::client(common, command.endpoint_url.as_deref()).await?;
            let key = LiveKey::read(&client, arn, &release.deployment).await?;
            with_key(verdict(&key.policy, &release), key)
        }
        (None, None) => return Err(Failure::input("give --policy or --key")),
    };
    Ok(Answer::new(text(&verdict, &release), &verdict).held(verdict.ok))
}

fn verdict(policy: &str, release: &Release) -> Verdict {
    let Release {
        deployment,
        measurements,
        ..
    } = release;
    let generator = Some(measurements.generator);
    let checked = check(
        policy,
        &Expected {
            deployment,
            signer: measurements.signer,
            generator,
            accept_open: true,
        },
    );
    let mut verdict = Verdict {
        ok: checked.is_ok(),
        key: None,
        form: None,
        problems: Vec::new(),
        departures: Vec::new(),
        today: Vec::new(),
        by_a_change: Vec::new(),
        notes: Vec::new(),
    };
    let (form, measurements) = match checked {
        Ok(checked) => {
            verdict.form = Some(form_name(checked.form));
            verdict.notes.extend(
                release
                    .why_not_adopted(
                        checked.form,
                        checked.measurements.previous_generator.is_some(),
                    )
                    .into_iter()
                    .map(str::to_owned),
            );
            if checked.measurements.next.is_some() {
                verdict.notes.push(BOTH_RELEASES.to_owned());
            }
            (checked.form, checked.measurements)
        }
        Err(mismatch) => {
            verdict.problems.push(ErrorChain(&mismatch).to_string());
            // Compared with the closer form.
            (
                if policy.contains("\"Frozen\"") {
                    Form::Locked
                } else {
                    Form::Open
                },
                *measurements,
            )
        }
    };
    match policy.parse::<Policy>() {
        Ok(parsed) => {
            let place = Place {
                deployment,
                measurements: &measurements,
            };
            let others = if verdict.ok {
                BTreeSet::new()
            } else {
                other_principals(policy, deployment)
            };
            Permissions {
                place,
                policy: &parsed,
                table: Table::load(),
                others,
            }
            .add_to(form, &mut verdict);
        }
        Err(error) => {
            let problem = format!(
                "the permissions are unknown, because the policy has unsupported elements: {}",
                ErrorChain(&error)
            );
            verdict.problems.push(problem);
        }
    }
    if verdict.ok {
        verdict.by_a_change.push(format!(
            "an administrator of IAM in account {} can assume each of these roles; the images they have to run in stay the same",
            deployment.account
        ));
        if form == Form::Locked {
            verdict.by_a_change.push(
                "AWS Support can reset the policy of an unmanageable key at the request of the account's owner"
                    .to_owned(),
            );
        }
    }
    verdict
}

fn with_key(mut verdict: Verdict, key: LiveKey) -> Verdict {
    verdict.problems.extend(key.problems);
    if !key.grants.is_empty() {
        verdict
            .problems
            .push("it has grants, which bypass its policy".to_owned());
    }
    verdict.departures.extend(key.grants);
    verdict.ok = verdict.problems.is_empty();
    verdict.key = Some(key.arn);
    verdict
}

const BOTH_RELEASES: &str = "this release and the next release are both admitted: after the exchange of the enclaves, deploy the policy of the one that stays";

#[cfg(test)]
pub(super) mod tests {
    use cloister_key_policy::{Deployment, Measurements, NextRelease, Pcr0, render};
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn deployment() -> Deployment {
        let role = |name: &str| format!("arn:aws:iam::111122223333:role/cloister/{name}");
        Deployment {
            partition: "aws".to_owned(),
            account: "111122223333".to_owned(),
            region: "eu-central-1".to_owned(),
            signer_role: role("signer"),
            generator_role: role("key-generator"),
            retirement_role: role("retirement"),
            administrator_role: role("administrator"),
        }
    }

    pub(crate) fn measurements() -> Measurements {
        Measurements::new(pcr0(0x51), pcr0(0x6e))
    }

    pub(crate) fn with_previous() -> Measurements {
        Measurements {
            previous_generator: Some(pcr0(0x70)),
            ..measurements()
        }
    }

    pub(crate) fn with_next() -> Measurements {
        let next = NextRelease {
            signer: pcr0(0xa1),
            generator: pcr0(0xa2),
        };
        Measurements {
            next: Some(next),
            ..measurements()
        }
    }

    fn pcr0(byte: u8) -> Pcr0 {
        Pcr0::try_from([byte; 48]).unwrap()
    }

    fn release() -> Release {
        Release::new(deployment(), measurements(), true)
    }

    fn rendered(form: Form) -> Value {
        serde_json::from_str(&render(&deployment(), &measurements(), form).unwrap()).unwrap()
    }

    #[test]
    fn the_open_form_in_words() {
        let release = release();
        let verdict = verdict(&rendered(Form::Open).to_string(), &release);
        assert!(
            verdict.ok && verdict.departures.is_empty() && verdict.problems.is_empty(),
            "{verdict:?}"
        );
        let expected = "\
the policy: exactly the open form for account 111122223333, signer 515151515151…, key generator 6e6e6e6e6e6e…

Permissions
  decrypt data keys, which opens wallet keys (needed to sign):
      arn:aws:iam::111122223333:role/cloister/key-generator, in the key generator's image 6e6e6e6e6e6e…
      arn:aws:iam::111122223333:role/cloister/signer, in the signer's image 515151515151…
  generate data keys, which seal new wallet keys:
      arn:aws:iam::111122223333:role/cloister/key-generator, in the key generator's image 6e6e6e6e6e6e…
  change the policy, or the key's properties:
      arn:aws:iam::111122223333:role/cloister/administrator
  destroy the key, and with it every wallet key (ScheduleKeyDeletion; the template demands 30 days' notice):
      arn:aws:iam::111122223333:role/cloister/retirement
  cancel a deletion and enable the key again:
      arn:aws:iam::111122223333:role/cloister/retirement
  read its description, policy and grants:
      any principal of account 111122223333 that IAM allows
  enable yearly rotation, which opens nothing:
      any principal of account 111122223333 that IAM allows

Changes
  arn:aws:iam::111122223333:role/cloister/administrator may replace the policy (kms:PutKeyPolicy), and with it all permissions above
  no principal may create grants (kms:CreateGrant), which bypass the policy
  an administrator of IAM in account 111122223333 can assume each of these roles; the images they have to run in stay the same
";
        assert_eq!(text(&verdict, &release), expected);
    }

    #[test]
    fn both_releases_are_named_while_they_are_exchanged() {
        let policy = render(&deployment(), &with_next(), Form::Open).unwrap();
        let verdict = verdict(&policy, &release());
        assert!(verdict.ok && verdict.departures.is_empty(), "{verdict:?}");
        assert!(
            text(&verdict, &release())
                .contains("role/cloister/signer, in the next signer's image a1a1a1a1a1a1…")
        );
        assert!(
            verdict
                .notes
                .iter()
                .any(|note| note.contains("next release")),
            "{verdict:?}"
        );
    }

    #[test]
    fn the_locked_form_allows_no_change() {
        let verdict = verdict(&rendered(Form::Locked).to_string(), &release());
        assert_eq!((verdict.ok, verdict.form), (true, Some("locked")));
        assert!(
            verdict.by_a_change[0].starts_with("no principal may replace the policy"),
            "{verdict:?}"
        );
        assert!(
            verdict
                .today
                .iter()
                .all(|ability| !ability.may.starts_with("change")),
            "{verdict:?}"
        );
    }

    #[test]
    fn an_additional_statement_is_reported_by_its_effect() {
        let mut policy = rendered(Form::Open);
        policy["Statement"].as_array_mut().unwrap().push(json!({
            "Sid": "Debugging", "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::111122223333:root" },
            "Action": ["kms:CreateGrant", "kms:DisableKey"], "Resource": "*",
            "Condition": { "ArnEquals": { "aws:PrincipalArn": "arn:aws:iam::111122223333:role/debugger" } }
        }));
        let verdict = verdict(&policy.to_string(), &release());
        assert!(
            !verdict.ok && verdict.problems[0].contains("/Statement/7"),
            "{verdict:?}"
        );
        let expected = "arn:aws:iam::111122223333:role/debugger, which the template does not name, may: CreateGrant, DisableKey";
        assert!(
            verdict
                .departures
                .iter()
                .any(|line| line.starts_with(expected)),
            "{verdict:?}"
        );
        let change = "arn:aws:iam::111122223333:role/debugger may create grants";
        assert!(
            verdict
                .by_a_change
                .iter()
                .any(|line| line.starts_with(change)),
            "{verdict:?}"
        );
    }

    #[test]
    fn a_missing_deny_is_a_problem() {
        let mut policy = rendered(Form::Open);
        policy["Statement"]
            .as_array_mut()
            .unwrap()
            .retain(|statement| statement["Sid"] != "Attested");
        let verdict = verdict(&policy.to_string(), &release());
        assert!(!verdict.ok, "{verdict:?}");
    }

    #[test]
    fn a_wider_condition_is_reported_by_its_grantees() {
        let mut policy = rendered(Form::Locked);
        for statement in policy["Statement"].as_array_mut().unwrap() {
            if statement["Sid"] == "Signer" {
                statement.as_object_mut().unwrap().remove("Condition");
            }
        }
        let verdict = verdict(&policy.to_string(), &release());
        assert!(!verdict.ok, "{verdict:?}");
        let everybody =
            "any principal of account 111122223333 that IAM allows, in the signer's image";
        let reported = |line: &String| {
            line.starts_with("statement `Signer` allows") && line.contains(everybody)
        };
        assert!(verdict.departures.iter().any(reported), "{verdict:#?}");
    }

    #[test]
    fn unsupported_elements_are_reported_as_such() {
        let mut policy = rendered(Form::Open);
        policy["Statement"][0]["Condition"] =
            json!({ "IpAddress": { "aws:SourceIp": "10.0.0.0/8" } });
        let verdict = verdict(&policy.to_string(), &release());
        assert!(
            !verdict.ok && verdict.today.is_empty() && verdict.problems.len() == 2,
            "{verdict:?}"
        );
        assert!(!super::verdict("{", &release()).ok);
    }
}
