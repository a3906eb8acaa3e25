//! Permissions under a policy, and where they differ from the template's.

use std::collections::{BTreeMap, BTreeSet};

use cloister_contract::ErrorChain;
use cloister_key_policy::{Decision, Deployment, Form, Policy};
use serde_json::Value;

use super::super::table::{Action, Caller, Does, Image, Place, Table, policy_name};
use super::grantee::{Grantee, texts};
use super::{Ability, Verdict};

/// The permissions under a policy: those of the callers in the table, and of other principals that
/// the policy names.
pub(super) struct Permissions<'a> {
    pub(super) place: Place<'a>,
    pub(super) policy: &'a Policy,
    pub(super) table: Table,
    pub(super) others: BTreeSet<String>,
}

impl Permissions<'_> {
    pub(super) fn add_to(&self, form: Form, verdict: &mut Verdict) {
        let name = policy_name(form, self.place.measurements);
        let mut may: BTreeMap<Does, BTreeSet<Grantee>> = BTreeMap::new();
        // Where the policy differs from the template, by statement and action.
        let mut beyond: BTreeMap<(Option<String>, &str), BTreeSet<Grantee>> = BTreeMap::new();
        for caller in &self.table.callers {
            for action in &self.table.actions {
                let allowed = match self.place.ask(self.policy, caller, action) {
                    Ok(Decision::Allow(sid)) => Some(sid),
                    Ok(Decision::ImplicitDeny | Decision::ExplicitDeny(_)) => None,
                    Err(error) => return verdict.problems.push(ErrorChain(&error).to_string()),
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
        verdict.departures = self.departures(beyond);
        for principal in &self.others {
            let allowed = self.allowed_to(principal);
            for action in &allowed {
                may.entry(action.does)
                    .or_default()
                    .insert(Grantee::principal(principal.clone()));
            }
            if !allowed.is_empty() {
                let names: Vec<_> = allowed.iter().map(|action| action.name.as_str()).collect();
                let names = names.join(", ");
                verdict.departures.push(format!(
                    "{principal}, which the template does not name, may: {names}"
                ));
            }
        }
        verdict.today = ABILITIES
            .into_iter()
            .filter_map(|(does, may_what)| {
                Some(Ability {
                    may: may_what,
                    who: self.texts(may.get(&does)?),
                })
            })
            .collect();
        verdict.by_a_change = self.by_a_change();
    }

    /// The actions of a principal that the policy names and the template does not, without an enclave
    /// or in an image of the release.
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
                "may replace the policy (kms:PutKeyPolicy), and with it all permissions above",
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
            let others = others.cloned().map(Grantee::principal);
            let who: BTreeSet<_> = callers.chain(others).collect();
            match who.is_empty() {
                true => sentences.push(format!("no principal {consequence}")),
                false => sentences.extend(
                    self.texts(&who)
                        .iter()
                        .map(|who| format!("{who} {consequence}")),
                ),
            }
        }
        sentences
    }

    /// One line for each statement and the grantees that it admits.
    fn departures(
        &self,
        beyond: BTreeMap<(Option<String>, &str), BTreeSet<Grantee>>,
    ) -> Vec<String> {
        let mut lines: BTreeMap<(Option<String>, Vec<String>), Vec<&str>> = BTreeMap::new();
        for ((sid, action), who) in beyond {
            lines
                .entry((sid, self.texts(&who)))
                .or_default()
                .push(action);
        }
        let line = |((sid, who), actions): ((Option<String>, Vec<String>), Vec<&str>)| {
            let (who, actions) = (who.join("; "), actions.join(", "));
            match sid {
                Some(sid) => format!("statement `{sid}` allows {who}: {actions}"),
                None => format!("no statement allows {who}: {actions}"),
            }
        };
        lines.into_iter().map(line).collect()
    }

    fn who(&self, caller: &Caller) -> Grantee {
        Grantee::of(caller, self.place.deployment, self.place.measurements)
    }

    fn texts(&self, grantees: &BTreeSet<Grantee>) -> Vec<String> {
        texts(grantees, self.place.deployment, self.place.measurements)
    }
}

/// The principals that a policy names in addition to the account and the deployment's roles.
pub(super) fn other_principals(policy: &str, deployment: &Deployment) -> BTreeSet<String> {
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

/// In the order of the damage.
const ABILITIES: [(Does, &str); 9] = [
    (
        Does::Open,
        "decrypt data keys, which opens wallet keys (needed to sign):",
    ),
    (
        Does::Make,
        "generate data keys, which seal new wallet keys:",
    ),
    (
        Does::Plant,
        "wrap data of their own that passes for a data key:",
    ),
    (Does::Change, "change the policy, or the key's properties:"),
    (Does::Stop, "disable the key, which stops every signature:"),
    (
        Does::Destroy,
        "destroy the key, and with it every wallet key (ScheduleKeyDeletion; the template demands 30 days' notice):",
    ),
    (Does::Rescue, "cancel a deletion and enable the key again:"),
    (Does::Look, "read its description, policy and grants:"),
    (Does::Rotate, "enable yearly rotation, which opens nothing:"),
];
