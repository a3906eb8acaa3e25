//! `cloister kms verify-policy`: is it exactly a rendering, and who may do what, in plain words?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use clap::Args;
use cloister_key_policy::{
    Decision, Deployment, Expected, Form, Measurements, Pcr0, Policy, check,
};
use serde::Serialize;
use serde_json::Value;

use super::live::{self, LiveKey};
use super::release::{Release, ReleaseFiles};
use super::table::{Account, Action, Caller, Does, Image, Place, Role, Table, policy_name};
use crate::answer::Answer;
use crate::arguments::Common;
use crate::failure::{Failure, chain};

#[derive(Args, Debug)]
pub(crate) struct Command {
    #[command(flatten)]
    release: ReleaseFiles,
    #[command(flatten)]
    what: What,
    /// KMS endpoint, when it is not AWS's
    #[arg(long, value_name = "URL", conflicts_with = "policy")]
    endpoint_url: Option<String>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct What {
    /// A file with a key policy
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// ARN of a key, which is read from KMS together with its description and grants
    #[arg(long, value_name = "ARN")]
    key: Option<String>,
}

/// What there is to say.
#[derive(Debug, Serialize)]
struct Verdict {
    /// Whether it is exactly a rendering for this release, of a key that an enclave accepts.
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// `open` or `locked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    form: Option<&'static str>,
    /// Why it is not a rendering, or not acceptable.
    problems: Vec<String>,
    /// Where it departs from what the template lets anybody do.
    departures: Vec<String>,
    /// Who may do what as the policy stands.
    today: Vec<Ability>,
    /// How that may become something else.
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
            verdict.problems.push(chain(&mismatch));
            // Compared with the form that it comes closer to.
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
            Asked {
                place,
                policy: &parsed,
                table: Table::load(),
                others,
            }
            .answer(form, &mut verdict);
        }
        Err(error) => {
            let problem = format!(
                "who may do what cannot be told, because the policy says more than is understood: {}",
                chain(&error)
            );
            verdict.problems.push(problem);
        }
    }
    if verdict.ok {
        verdict.by_a_change.push(format!(
            "whoever administers IAM in account {} may become each of these roles; the images they have to run in stay what they are",
            deployment.account
        ));
        if form == Form::Locked {
            verdict.by_a_change.push(
                "AWS Support may reset the policy of a key that nobody manages, when the account's owner asks for it"
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

/// A policy that is asked about each cell of the table, and about whoever else it names.
struct Asked<'a> {
    place: Place<'a>,
    policy: &'a Policy,
    table: Table,
    others: BTreeSet<String>,
}

impl Asked<'_> {
    fn answer(&self, form: Form, verdict: &mut Verdict) {
        let name = policy_name(form, self.place.measurements);
        // By what it amounts to: who may.
        let mut may: BTreeMap<Does, BTreeSet<String>> = BTreeMap::new();
        // By statement and action, where the template says something else: who.
        let mut beyond: BTreeMap<(Option<String>, &str), BTreeSet<String>> = BTreeMap::new();
        for caller in &self.table.callers {
            for action in &self.table.actions {
                let allowed = match self.place.ask(self.policy, caller, action) {
                    Ok(Decision::Allow(sid)) => Some(sid),
                    Ok(Decision::ImplicitDeny | Decision::ExplicitDeny(_)) => None,
                    Err(error) => return verdict.problems.push(chain(&error)),
                };
                if allowed.is_some() {
                    may.entry(action.does).or_default().insert(self.who(caller));
                }
                if allowed.is_some() != self.table.allows(name, caller, action) {
                    beyond
                        .entry((allowed, &action.name))
                        .or_default()
                        .insert(self.who(caller));
                }
            }
        }
        verdict.departures = departures(beyond);
        for principal in &self.others {
            let allowed = self.allowed_to(principal);
            for action in &allowed {
                may.entry(action.does)
                    .or_default()
                    .insert(principal.clone());
            }
            if !allowed.is_empty() {
                let names: Vec<_> = allowed.iter().map(|action| action.name.as_str()).collect();
                let names = names.join(", ");
                verdict.departures.push(format!(
                    "{principal}, whom the template does not name, may: {names}"
                ));
            }
        }
        verdict.today = ABILITIES
            .into_iter()
            .filter_map(|(does, may_what)| {
                Some(Ability {
                    may: may_what,
                    who: shortest(may.get(&does)?),
                })
            })
            .collect();
        verdict.by_a_change = self.by_a_change();
    }

    /// What a principal that the policy names, and the template does not, may do outside of an
    /// enclave or in the signer's image.
    fn allowed_to(&self, principal: &str) -> Vec<&Action> {
        let account = principal.split(':').nth(4).unwrap_or_default();
        let asked = |action: &Action, image| {
            self.place.ask_for(
                self.policy,
                principal.to_owned(),
                account.to_owned(),
                image,
                action,
            )
        };
        let allowed = |action: &&Action| {
            [None, Some(Image::Signer), Some(Image::Generator)]
                .into_iter()
                .any(|image| matches!(asked(action, image), Ok(Decision::Allow(_))))
        };
        self.table.actions.iter().filter(allowed).collect()
    }

    fn by_a_change(&self) -> Vec<String> {
        let changing = |name: &str| self.table.actions.iter().find(|action| action.name == name);
        let consequences = [
            (
                "PutKeyPolicy",
                "may replace the policy (kms:PutKeyPolicy): everything said above may then be different",
            ),
            (
                "CreateGrant",
                "may create grants (kms:CreateGrant), which bypass the policy",
            ),
        ];
        let mut sentences = Vec::new();
        for (name, consequence) in consequences {
            let Some(action) = changing(name) else {
                continue;
            };
            let may = |caller: &&Caller| {
                matches!(
                    self.place.ask(self.policy, caller, action),
                    Ok(Decision::Allow(_))
                )
            };
            let others = self
                .others
                .iter()
                .filter(|other| self.allowed_to(other).iter().any(|may| may.name == name));
            let callers = self
                .table
                .callers
                .iter()
                .filter(may)
                .map(|caller| self.who(caller));
            let who: BTreeSet<_> = callers.chain(others.cloned()).collect();
            match who.is_empty() {
                true => sentences.push(format!("nobody {consequence}")),
                false => sentences.extend(
                    shortest(&who)
                        .iter()
                        .map(|who| format!("{who} {consequence}")),
                ),
            }
        }
        sentences
    }

    /// A caller in the words of this deployment.
    fn who(&self, caller: &Caller) -> String {
        let Deployment {
            signer_role,
            generator_role,
            retirement_role,
            administrator_role,
            account,
            ..
        } = self.place.deployment;
        let role = match (caller.account, caller.role) {
            (Account::Another, _) => ANOTHER_ACCOUNT.to_owned(),
            (Account::Own, Role::Signer) => signer_role.clone(),
            (Account::Own, Role::Generator) => generator_role.clone(),
            (Account::Own, Role::Retirement) => retirement_role.clone(),
            (Account::Own, Role::Administrator) => administrator_role.clone(),
            (Account::Own, Role::Lambda | Role::Another | Role::Root) => {
                format!("{EVERYBODY} {account} whom IAM allows it")
            }
        };
        let Measurements {
            signer,
            generator,
            previous_generator,
            next,
        } = self.place.measurements;
        let (name, measurement) = match caller.image {
            None => return role,
            Some(Image::Signer) => ("the signer's image", Some(*signer)),
            Some(Image::Generator) => ("the key generator's image", Some(*generator)),
            Some(Image::Previous) => ("the previous key generator's image", *previous_generator),
            Some(Image::NextSigner) => ("the next signer's image", next.map(|next| next.signer)),
            Some(Image::NextGenerator) => (
                "the next key generator's image",
                next.map(|next| next.generator),
            ),
            Some(Image::Other) => ("any image", None),
            Some(Image::Zeros) => return format!("{role}, in any image in debug mode"),
        };
        match (name, measurement) {
            (_, None) => format!("{role}, in any image"),
            (name, Some(pcr0)) => format!("{role}, in {name} {}", short(&pcr0)),
        }
    }
}

/// One sentence for each statement and those it lets in.
fn departures(beyond: BTreeMap<(Option<String>, &str), BTreeSet<String>>) -> Vec<String> {
    let mut sentences: BTreeMap<(Option<String>, Vec<String>), Vec<&str>> = BTreeMap::new();
    for ((sid, action), who) in beyond {
        sentences
            .entry((sid, shortest(&who)))
            .or_default()
            .push(action);
    }
    let sentence = |((sid, who), actions): ((Option<String>, Vec<String>), Vec<&str>)| {
        let (who, actions) = (who.join("; "), actions.join(", "));
        match sid {
            Some(sid) => format!("statement `{sid}` lets {who}: {actions}"),
            None => format!("no statement lets {who}: {actions}"),
        }
    };
    sentences.into_iter().map(sentence).collect()
}

/// Leaves out what a wider entry says already: `everybody` says it of each role, a role of each of
/// its images.
fn shortest(who: &BTreeSet<String>) -> Vec<String> {
    let covers = |wide: &String, narrow: &String| {
        let (wide_role, wide_image) = wide
            .split_once(", in ")
            .map_or((wide.as_str(), None), |(role, image)| (role, Some(image)));
        let (role, image) = narrow
            .split_once(", in ")
            .map_or((narrow.as_str(), None), |(role, image)| (role, Some(image)));
        let roles =
            wide_role == role || wide_role == ANOTHER_ACCOUNT || wide_role.starts_with(EVERYBODY);
        roles && (wide_image.is_none() || wide_image == image)
    };
    let wider = |name: &&String| {
        !who.iter().any(|other| {
            other != *name && covers(other, name) && !(covers(name, other) && *name < other)
        })
    };
    who.iter().filter(wider).cloned().collect()
}

/// The principals that a policy names beside the account and the deployment's roles.
fn other_principals(policy: &str, deployment: &Deployment) -> BTreeSet<String> {
    fn strings(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => drop(into.insert(text.clone())),
            Value::Array(items) => items.iter().for_each(|item| strings(item, into)),
            Value::Object(members) => members.values().for_each(|member| strings(member, into)),
            _ => {}
        }
    }

    let mut named = BTreeSet::new();
    strings(
        &serde_json::from_str(policy).unwrap_or_default(),
        &mut named,
    );
    let Deployment {
        partition,
        account,
        signer_role,
        generator_role,
        retirement_role,
        administrator_role,
        ..
    } = deployment;
    let known = [
        signer_role,
        generator_role,
        retirement_role,
        administrator_role,
    ];
    let root = format!("arn:{partition}:iam::{account}:root");
    let principals = named
        .into_iter()
        .filter(|text| text.starts_with("arn:") && text.contains(":iam::"));
    principals
        .filter(|text| *text != root && !known.contains(&text))
        .collect()
}

fn text(verdict: &Verdict, release: &Release) -> String {
    let Measurements {
        signer, generator, ..
    } = release.measurements;
    let subject = verdict.key.as_deref().unwrap_or("the policy");
    let mut text = match (verdict.ok, verdict.form) {
        (true, Some(form)) => format!(
            "{subject}: exactly the {form} form for account {}, signer {}, key generator {}\n",
            release.deployment.account,
            short(&signer),
            short(&generator)
        ),
        _ => format!("{subject}: NOT what it should be\n"),
    };
    let mut list = |title: &str, lines: &[String]| {
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}\n"));
            lines
                .iter()
                .for_each(|line| text.push_str(&format!("  {line}\n")));
        }
    };
    list("Because", &verdict.problems);
    list("Beside the template", &verdict.departures);
    let today: Vec<_> = verdict
        .today
        .iter()
        .flat_map(|Ability { may, who }| {
            std::iter::once((*may).to_owned()).chain(who.iter().map(|who| format!("    {who}")))
        })
        .collect();
    list("Who may, as the policy stands", &today);
    list("And by a change", &verdict.by_a_change);
    list("Note", &verdict.notes);
    text
}

fn form_name(form: Form) -> &'static str {
    match form {
        Form::Open => "open",
        Form::Locked => "locked",
    }
}

/// Enough of a measurement to tell it from another.
fn short(pcr0: &Pcr0) -> String {
    format!("{}…", const_hex::encode(&pcr0.as_bytes()[..6]))
}

const BOTH_RELEASES: &str = "this release and the next release are both admitted: once the enclaves are exchanged, deploy the policy of the one that stays";
const EVERYBODY: &str = "everybody in account";
const ANOTHER_ACCOUNT: &str = "principals of other accounts";

/// In the order of what there is to lose.
const ABILITIES: [(Does, &str); 9] = [
    (
        Does::Open,
        "decrypt data keys, which opens wallet keys, which is what signing takes:",
    ),
    (
        Does::Make,
        "generate data keys, which new wallet keys are sealed with:",
    ),
    (
        Does::Plant,
        "wrap data of their own, to be taken for a data key:",
    ),
    (Does::Change, "change the policy, or what it is about:"),
    (Does::Stop, "disable the key, which stops every signature:"),
    (
        Does::Destroy,
        "destroy the key, and with it every wallet key (ScheduleKeyDeletion; the template demands 30 days' notice):",
    ),
    (Does::Rescue, "cancel a deletion and enable the key again:"),
    (Does::Look, "read its description, policy and grants:"),
    (
        Does::Rotate,
        "switch yearly rotation on, which opens nothing:",
    ),
];

#[cfg(test)]
pub(super) mod tests {
    use cloister_key_policy::{NextRelease, render};
    use serde_json::json;

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

Who may, as the policy stands
  decrypt data keys, which opens wallet keys, which is what signing takes:
      arn:aws:iam::111122223333:role/cloister/key-generator, in the key generator's image 6e6e6e6e6e6e…
      arn:aws:iam::111122223333:role/cloister/signer, in the signer's image 515151515151…
  generate data keys, which new wallet keys are sealed with:
      arn:aws:iam::111122223333:role/cloister/key-generator, in the key generator's image 6e6e6e6e6e6e…
  change the policy, or what it is about:
      arn:aws:iam::111122223333:role/cloister/administrator
  destroy the key, and with it every wallet key (ScheduleKeyDeletion; the template demands 30 days' notice):
      arn:aws:iam::111122223333:role/cloister/retirement
  cancel a deletion and enable the key again:
      arn:aws:iam::111122223333:role/cloister/retirement
  read its description, policy and grants:
      everybody in account 111122223333 whom IAM allows it
  switch yearly rotation on, which opens nothing:
      everybody in account 111122223333 whom IAM allows it

And by a change
  arn:aws:iam::111122223333:role/cloister/administrator may replace the policy (kms:PutKeyPolicy): everything said above may then be different
  nobody may create grants (kms:CreateGrant), which bypass the policy
  whoever administers IAM in account 111122223333 may become each of these roles; the images they have to run in stay what they are
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
    fn in_the_locked_form_nobody_changes_anything() {
        let verdict = verdict(&rendered(Form::Locked).to_string(), &release());
        assert_eq!((verdict.ok, verdict.form), (true, Some("locked")));
        assert!(
            verdict.by_a_change[0].starts_with("nobody may replace the policy"),
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
    fn a_statement_more_is_told_by_what_it_does() {
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
        let expected = "arn:aws:iam::111122223333:role/debugger, whom the template does not name, may: CreateGrant, DisableKey";
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
    fn without_its_deny_everything_else_is_still_denied_but_that_is_not_enough() {
        let mut policy = rendered(Form::Open);
        policy["Statement"]
            .as_array_mut()
            .unwrap()
            .retain(|statement| statement["Sid"] != "Attested");
        let verdict = verdict(&policy.to_string(), &release());
        assert!(!verdict.ok, "{verdict:?}");
    }

    #[test]
    fn a_wider_condition_is_told_by_whom_it_lets_in() {
        let mut policy = rendered(Form::Locked);
        for statement in policy["Statement"].as_array_mut().unwrap() {
            if statement["Sid"] == "Signer" {
                statement.as_object_mut().unwrap().remove("Condition");
            }
        }
        let verdict = verdict(&policy.to_string(), &release());
        assert!(!verdict.ok, "{verdict:?}");
        let everybody =
            "everybody in account 111122223333 whom IAM allows it, in the signer's image";
        let told =
            |line: &String| line.starts_with("statement `Signer` lets") && line.contains(everybody);
        assert!(verdict.departures.iter().any(told), "{verdict:#?}");
    }

    #[test]
    fn what_is_not_understood_is_said_to_be() {
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
