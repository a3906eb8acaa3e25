//! The permission table: every caller and action, and the decision of a policy on each cell.

use std::collections::{BTreeMap, BTreeSet};

use cloister_key_policy::{
    Decision, Deployment, Form, KmsRequest, Measurements, Policy, PolicyError,
};
use serde::Deserialize;

/// The permission table. Everything it does not allow is denied.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    #[serde(rename = "about")]
    _about: String,
    /// The renderings that the rules name.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "tests hold the rules against it")
    )]
    policies: Vec<String>,
    pub(super) callers: Vec<Caller>,
    pub(super) actions: Vec<Action>,
    sets: BTreeMap<String, Vec<String>>,
    allowed: Vec<Rule>,
    denied_whatever_else_allows_it: Vec<Rule>,
}

/// A row.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) role: Role,
    /// The image in the call's attestation document; `None` without an enclave.
    pub(super) image: Option<Image>,
    /// The role was deleted and created again under its name.
    #[serde(default)]
    pub(super) re_created: bool,
    #[serde(default)]
    pub(super) account: Account,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    Signer,
    Generator,
    Retirement,
    Administrator,
    Lambda,
    /// Any other principal.
    Another,
    Root,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Image {
    Signer,
    Generator,
    /// The key generator of the release before.
    Previous,
    NextSigner,
    NextGenerator,
    /// An image that no policy names.
    Other,
    /// Any image in debug mode.
    Zeros,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Account {
    #[default]
    Own,
    Another,
}

/// A column.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Action {
    pub(super) name: String,
    pub(super) does: Does,
    pub(super) action: String,
    /// `purpose` of the encryption context.
    pub(super) purpose: Option<String>,
    /// Days until a deletion.
    pub(super) window: Option<i32>,
}

/// The effect of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Does {
    Open,
    Make,
    Plant,
    Change,
    Stop,
    Destroy,
    Rescue,
    Look,
    Rotate,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    callers: Vec<String>,
    actions: Vec<String>,
    /// All renderings, unless listed.
    policies: Option<Vec<String>>,
}

impl Table {
    pub(super) fn load() -> Self {
        const TABLE: &str =
            include_str!("../../../../tests/vectors/key-policy/who-may-do-what.json");
        serde_json::from_str(TABLE).expect("the table is part of this build and its tests parse it")
    }

    /// Returns whether `policy`, one of the renderings, must allow the action.
    pub(super) fn allows(&self, policy: &str, caller: &Caller, action: &Action) -> bool {
        self.any(&self.allowed, policy, caller, action)
    }

    /// Returns whether the denial must be explicit: no grant or other statement can override it.
    pub(super) fn denies_explicitly(&self, policy: &str, caller: &Caller, action: &Action) -> bool {
        self.any(&self.denied_whatever_else_allows_it, policy, caller, action)
    }

    fn any(&self, rules: &[Rule], policy: &str, caller: &Caller, action: &Action) -> bool {
        rules.iter().any(|rule| {
            rule.policies
                .as_ref()
                .is_none_or(|policies| policies.iter().any(|name| name == policy))
                && self.holds(&rule.callers, &caller.name)
                && self.holds(&rule.actions, &action.name)
        })
    }

    fn holds(&self, names: &[String], wanted: &str) -> bool {
        names.iter().any(|name| match self.sets.get(name) {
            Some(set) => set.iter().any(|name| name == wanted),
            None => name == wanted,
        })
    }
}

/// The table's name of a rendering.
pub(super) fn policy_name(form: Form, measurements: &Measurements) -> &'static str {
    let Measurements {
        previous_generator,
        next,
        ..
    } = measurements;
    match (form, next.is_some(), previous_generator.is_some()) {
        (Form::Open, true, _) => "open-with-next",
        (Form::Open, false, true) => "open-with-previous",
        (Form::Open, false, false) => "open",
        (Form::Locked, _, true) => "locked-with-previous",
        (Form::Locked, _, false) => "locked",
    }
}

/// The deployment that a table is applied to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) measurements: &'a Measurements,
}

impl Place<'_> {
    /// The decision of `policy` on one cell.
    pub(super) fn ask(
        &self,
        policy: &Policy,
        caller: &Caller,
        action: &Action,
    ) -> Result<Decision, PolicyError> {
        let account = self.account(caller.account);
        self.ask_for(
            policy,
            self.principal(caller, &account),
            account,
            caller.image,
            action,
        )
    }

    /// The decision of `policy` on an action of the principal with this ARN.
    pub(super) fn ask_for(
        &self,
        policy: &Policy,
        principal_arn: String,
        account: String,
        image: Option<Image>,
        action: &Action,
    ) -> Result<Decision, PolicyError> {
        let Deployment {
            partition,
            account: owner,
            region,
            ..
        } = self.deployment;
        let conditions = [
            image.map(|image| {
                (
                    "kms:RecipientAttestation:ImageSha384",
                    self.measurement(image),
                )
            }),
            action
                .purpose
                .clone()
                .map(|purpose| ("kms:EncryptionContext:purpose", purpose)),
            action.window.map(|days| {
                (
                    "kms:ScheduleKeyDeletionPendingWindowInDays",
                    days.to_string(),
                )
            }),
        ];
        policy.evaluate(&KmsRequest {
            principal_arn,
            account,
            action: action.action.clone(),
            resource: format!(
                "arn:{partition}:kms:{region}:{owner}:key/00000000-0000-4000-8000-000000000000"
            ),
            context: conditions
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.to_owned(), vec![value]))
                .collect(),
        })
    }

    fn account(&self, account: Account) -> String {
        let own = &self.deployment.account;
        match account {
            Account::Own => own.clone(),
            Account::Another if own == "999999999999" => "888888888888".to_owned(),
            Account::Another => "999999999999".to_owned(),
        }
    }

    fn principal(&self, caller: &Caller, account: &str) -> String {
        let Deployment {
            partition,
            account: own,
            ..
        } = self.deployment;
        let another = |name: &str| format!("arn:{partition}:iam::{account}:{name}");
        let deployed =
            |role: &str| role.replacen(&format!("::{own}:"), &format!("::{account}:"), 1);
        match caller.role {
            Role::Signer => deployed(&self.deployment.signer_role),
            Role::Generator => deployed(&self.deployment.generator_role),
            Role::Retirement => deployed(&self.deployment.retirement_role),
            Role::Administrator => deployed(&self.deployment.administrator_role),
            Role::Lambda => another("role/any-lambda"),
            Role::Another => another("role/anybody-else"),
            Role::Root => another("root"),
        }
    }

    fn measurement(&self, image: Image) -> String {
        let Measurements {
            signer,
            generator,
            previous_generator,
            next,
        } = self.measurements;
        // An image that the policy does not name is like any other.
        let named = match image {
            Image::Signer => Some(*signer),
            Image::Generator => Some(*generator),
            Image::Previous => *previous_generator,
            Image::NextSigner => next.map(|next| next.signer),
            Image::NextGenerator => next.map(|next| next.generator),
            Image::Other => None,
            Image::Zeros => return "0".repeat(96),
        };
        named.map_or_else(|| self.stranger(), |pcr0| pcr0.to_string())
    }

    /// A measurement that the policy does not name.
    fn stranger(&self) -> String {
        let Measurements {
            signer,
            generator,
            previous_generator,
            next,
        } = self.measurements;
        let next = next
            .map(|next| [next.signer, next.generator])
            .into_iter()
            .flatten();
        let ours: BTreeSet<_> = [*signer, *generator]
            .into_iter()
            .chain(*previous_generator)
            .chain(next)
            .map(|pcr0| pcr0.to_string())
            .collect();
        let mut others = (1..=9)
            .map(|digit| digit.to_string().repeat(96))
            .filter(|pcr0| !ours.contains(pcr0));
        others.next().expect("nine values less five are four")
    }
}

#[cfg(test)]
mod tests {
    use cloister_key_policy::render;

    use super::*;
    use crate::kms::verify_policy::tests::{deployment, measurements, with_next, with_previous};

    #[test]
    fn every_name_in_the_table_exists_once() {
        let table = Table::load();
        let callers: BTreeSet<_> = table
            .callers
            .iter()
            .map(|caller| caller.name.as_str())
            .collect();
        let actions: BTreeSet<_> = table
            .actions
            .iter()
            .map(|action| action.name.as_str())
            .collect();
        assert_eq!(
            (callers.len(), actions.len()),
            (table.callers.len(), table.actions.len())
        );
        let known = |name: &String, one: &BTreeSet<&str>| {
            let set = table.sets.get(name);
            one.contains(name.as_str())
                || set.is_some_and(|set| set.iter().all(|name| one.contains(name.as_str())))
        };
        for rule in table
            .allowed
            .iter()
            .chain(&table.denied_whatever_else_allows_it)
        {
            assert!(
                rule.callers.iter().all(|name| known(name, &callers)),
                "{rule:?}"
            );
            assert!(
                rule.actions.iter().all(|name| known(name, &actions)),
                "{rule:?}"
            );
            assert!(
                rule.policies
                    .iter()
                    .flatten()
                    .all(|name| table.policies.contains(name)),
                "{rule:?}"
            );
        }
    }

    /// Every caller, every action, every rendering: allowed exactly where the table allows it.
    #[test]
    fn every_rendering_says_what_the_table_says() {
        let (table, deployment) = (Table::load(), deployment());
        let mut cells = 0;
        for (form, measurements) in [
            (Form::Open, measurements()),
            (Form::Open, with_previous()),
            (Form::Open, with_next()),
            (Form::Locked, measurements()),
            (Form::Locked, with_previous()),
        ] {
            let name = policy_name(form, &measurements);
            assert!(table.policies.iter().any(|policy| policy == name), "{name}");
            let policy: Policy = render(&deployment, &measurements, form)
                .unwrap()
                .parse()
                .unwrap();
            let place = Place {
                deployment: &deployment,
                measurements: &measurements,
            };
            for caller in &table.callers {
                for action in &table.actions {
                    let at = format!("{name}: {}: {}", caller.name, action.name);
                    let decision = place.ask(&policy, caller, action).unwrap();
                    let allowed = matches!(decision, Decision::Allow(_));
                    assert_eq!(
                        allowed,
                        table.allows(name, caller, action),
                        "{at}: {decision:?}"
                    );
                    let explicit = matches!(decision, Decision::ExplicitDeny(_));
                    assert_eq!(
                        explicit,
                        table.denies_explicitly(name, caller, action),
                        "{at}: {decision:?}"
                    );
                    cells += 1;
                }
            }
        }
        assert_eq!(
            cells,
            table.policies.len() * table.callers.len() * table.actions.len()
        );
    }
}
