//! `cloister kms rehearse`: tries the permission table on KMS itself, with throw-away keys.

mod call;
mod cleanup;
mod iam;
mod report;
mod roles;
mod setup;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_sdk_kms::Client;
use clap::Args;
use cloister_key_policy::{Deployment, Form, Measurements};
use serde::Serialize;

use super::live;
use super::table::{Account, Action, Caller, Role, Table, policy_name};
use crate::answer::Answer;
use crate::aws;
use crate::failure::Failure;
use crate::options::Common;
use call::{Outcome, Target, perform};
use report::{plan, text};
use roles::Roles;
use setup::{deployment, describe_works, random, random_pcr0};

#[derive(Args, Debug)]
pub(crate) struct Command {
    /// Do it, in this account. Without it the command only prints what it would do
    #[arg(long, value_name = "ACCOUNT")]
    confirm: Option<String>,
    /// Profile of a principal of another account, which must also be refused
    #[arg(long, value_name = "NAME")]
    other_account_profile: Option<String>,
    /// KMS endpoint other than AWS's
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
}

/// The result of a rehearsal.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    account: String,
    /// Keys that remain until KMS deletes them.
    keys: Vec<String>,
    rows: Vec<Row>,
    /// Callers and actions that could not be tried, by reason.
    not_tried: BTreeMap<&'static str, Vec<String>>,
}

#[derive(Debug, Serialize)]
struct Row {
    form: &'static str,
    caller: String,
    action: String,
    expected: &'static str,
    found: String,
    ok: bool,
}

pub(crate) async fn run(command: &Command, common: &Common) -> Result<Answer, Failure> {
    let configuration = aws::configuration(common).await?;
    aws::credentials(&configuration).await?;
    let region = configuration
        .region()
        .map(Region::to_string)
        .ok_or_else(|| {
            Failure::input("no region: give --region, or set AWS_REGION or the profile's region")
        })?;
    let sts = aws_sdk_sts::Client::new(&configuration);
    let caller = sts
        .get_caller_identity()
        .send()
        .await
        .map_err(Failure::aws("GetCallerIdentity"))?;
    let arn = caller.arn.unwrap_or_default();
    let (Some(partition), Some(account)) = (arn.split(':').nth(1), caller.account.as_deref())
    else {
        return Err(Failure::Wrong("STS returned no caller".to_owned()));
    };
    let name = format!("cloister-rehearsal-{}", const_hex::encode(random::<4>()?));
    let deployment = deployment(partition, account, &region, &name);

    match &command.confirm {
        Some(confirmed) if confirmed == account => {}
        Some(confirmed) => {
            return Err(Failure::Input(format!(
                "{arn} is in account {account}, not in {confirmed}: nothing was done"
            )));
        }
        None => {
            let plan = plan(&arn, &deployment, &name);
            return Err(Failure::Input(format!(
                "nothing was done. With --confirm {account} this would be done,\n{plan}"
            )));
        }
    }
    let stranger = match &command.other_account_profile {
        Some(profile) => Some(kms(
            &aws::configuration(&of_profile(common, profile)).await?,
            command,
        )),
        None => None,
    };
    let roles = Roles::new(common, &configuration, &deployment, &name).await?;
    let rehearsal = Rehearsal {
        operator: kms(&configuration, command),
        stranger,
        roles,
        deployment,
        measurements: Measurements::new(random_pcr0()?, random_pcr0()?),
        table: Table::load(),
        command,
        configuration,
        quiet: common.json,
        interrupted: Arc::default(),
    };
    rehearsal.run(&name).await
}

struct Rehearsal<'a> {
    operator: Client,
    stranger: Option<Client>,
    roles: Roles,
    deployment: Deployment,
    measurements: Measurements,
    table: Table,
    command: &'a Command,
    configuration: SdkConfig,
    /// With `--json` only a failure is written to standard error.
    quiet: bool,
    /// Set by Ctrl-C and checked between calls: a call in flight may have created something.
    interrupted: Arc<AtomicBool>,
}

impl Rehearsal<'_> {
    async fn run(&self, name: &str) -> Result<Answer, Failure> {
        let mut keys = Vec::new();
        let mut rows = Vec::new();
        let interrupted = Arc::clone(&self.interrupted);
        tokio::spawn(async move {
            interrupted.store(tokio::signal::ctrl_c().await.is_ok(), Ordering::Relaxed)
        });
        let outcome = self.both_forms(name, &mut keys, &mut rows).await;
        // In every case roles are deleted, and the deletion of keys is scheduled.
        let retired = match &outcome {
            Ok(()) => Ok(()),
            Err(_) => self.retire_all(&keys).await,
        };
        let cleaned = retired.and(self.roles.delete().await);
        if let Err(failure) = outcome {
            let keys = if keys.is_empty() {
                "no key was created".to_owned()
            } else {
                format!("keys created: {}", keys.join(" "))
            };
            let then = match cleaned {
                Ok(()) => format!("{keys}; deletion scheduled, roles deleted"),
                Err(error) => format!("{keys}; NOT CLEANED UP: {error}"),
            };
            return Err(Failure::Then {
                failure: Box::new(failure),
                then,
            });
        }
        cleaned?;
        let report = Report {
            ok: rows.iter().all(|row: &Row| row.ok),
            account: self.deployment.account.clone(),
            keys,
            rows,
            not_tried: self.not_tried(),
        };
        Ok(Answer::new(text(&report), &report).held(report.ok))
    }

    fn go_on(&self) -> Result<(), Failure> {
        match self.interrupted.load(Ordering::Relaxed) {
            true => Err(Failure::Here("interrupted".to_owned())),
            false => Ok(()),
        }
    }

    /// The open form first: the locked key is created only after the retirement role has scheduled
    /// the deletion of a key.
    async fn both_forms(
        &self,
        name: &str,
        keys: &mut Vec<String>,
        rows: &mut Vec<Row>,
    ) -> Result<(), Failure> {
        self.roles.create().await?;
        for form in [Form::Open, Form::Locked] {
            let target = self.key(name, form, keys).await?;
            if !self.quiet {
                eprintln!(
                    "{}: the {} form",
                    target.arn,
                    policy_name(form, &self.measurements)
                );
            }
            self.settled(&target).await?;
            self.rows(form, &target, rows).await?;
            self.roles.re_create(Role::Retirement).await?;
            let again = |caller: &Caller| {
                caller.re_created && caller.role == Role::Retirement && caller.image.is_none()
            };
            let client = self.client(Role::Retirement).await?;
            self.patiently(|| describe_works(&client, &target)).await?;
            let again = self.table.callers.iter().filter(|caller| again(caller));
            let callers: Vec<_> = again.map(|caller| (caller, client.clone())).collect();
            self.rows_of(form, &callers, &target, rows).await?;
            self.retire(&target.arn).await?;
        }
        Ok(())
    }

    async fn rows(&self, form: Form, target: &Target, rows: &mut Vec<Row>) -> Result<(), Failure> {
        let mut clients = BTreeMap::from([(Role::Another, self.operator.clone())]);
        for role in ROLES {
            clients.insert(role, self.client(role).await?);
        }
        let tried = self
            .table
            .callers
            .iter()
            .filter(|caller| self.why_not(caller).is_none() && !caller.re_created);
        let client = |caller: &Caller| match caller.account {
            Account::Own => clients.get(&caller.role).cloned(),
            Account::Another => self.stranger.clone(),
        };
        let callers: Vec<_> = tried
            .filter_map(|caller| Some((caller, client(caller)?)))
            .collect();
        self.rows_of(form, &callers, target, rows).await
    }

    /// Actions that must be denied come first: allowed ones change the key.
    async fn rows_of(
        &self,
        form: Form,
        callers: &[(&Caller, Client)],
        target: &Target,
        rows: &mut Vec<Row>,
    ) -> Result<(), Failure> {
        let name = policy_name(form, &self.measurements);
        let mut tried = Vec::new();
        for allowed in [false, true] {
            for (caller, client) in callers {
                let actions = self.table.actions.iter();
                for action in
                    actions.filter(|action| self.table.allows(name, caller, action) == allowed)
                {
                    self.go_on()?;
                    let row = perform(client, target, action)
                        .await
                        .map(|found| self.row(name, caller, action, &found));
                    tried.extend(row.map(|row| (row, caller, client, action)));
                }
            }
        }
        // KMS is eventually consistent: a wrong result is tried again.
        for pause in [2, 8] {
            let mut wrong = tried.iter_mut().filter(|(row, ..)| !row.ok).peekable();
            if wrong.peek().is_some() {
                tokio::time::sleep(Duration::from_secs(pause)).await;
            }
            for (row, caller, client, action) in wrong {
                self.go_on()?;
                if let Some(found) = perform(client, target, action).await {
                    *row = self.row(name, caller, action, &found);
                }
            }
        }
        rows.extend(tried.into_iter().map(|(row, ..)| row));
        Ok(())
    }

    /// The result for one cell of the table.
    fn row(&self, form: &'static str, caller: &Caller, action: &Action, found: &Outcome) -> Row {
        let (expected, ok) = if self.table.allows(form, caller, action) {
            ("allowed", *found == Outcome::Allowed)
        } else if self.table.denies_explicitly(form, caller, action) {
            (
                "denied explicitly",
                *found == Outcome::DeniedByPolicy { explicitly: true },
            )
        } else {
            ("denied", matches!(found, Outcome::DeniedByPolicy { .. }))
        };
        let (caller, action) = (caller.name.clone(), action.name.clone());
        Row {
            form,
            caller,
            action,
            expected,
            found: found.to_string(),
            ok,
        }
    }

    /// The reason that a caller cannot be tried, if there is one.
    fn why_not(&self, caller: &Caller) -> Option<&'static str> {
        match caller {
            Caller { image: Some(_), .. } => {
                Some("only an enclave can send an attestation document")
            }
            Caller {
                account: Account::Another,
                ..
            } if self.stranger.is_none() => Some("--other-account-profile is needed"),
            Caller {
                account: Account::Own,
                role: Role::Root,
                ..
            } => Some("the root user's credentials are needed"),
            _ => None,
        }
    }

    fn not_tried(&self) -> BTreeMap<&'static str, Vec<String>> {
        let mut reasons: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for caller in &self.table.callers {
            if let Some(why) = self.why_not(caller) {
                reasons.entry(why).or_default().push(caller.name.clone());
            }
        }
        let untried = self
            .table
            .actions
            .iter()
            .filter(|action| !call::can_be_tried(action));
        reasons.insert(
            "KMS has no dry run of them",
            untried.map(|action| action.name.clone()).collect(),
        );
        reasons
    }

    async fn client(&self, role: Role) -> Result<Client, Failure> {
        let credentials = self.roles.assume(role).await?;
        let configuration = self.configuration.clone().into_builder();
        let provider = aws_credential_types::provider::SharedCredentialsProvider::new(credentials);
        Ok(kms(
            &configuration.credentials_provider(provider).build(),
            self.command,
        ))
    }
}

fn kms(configuration: &SdkConfig, command: &Command) -> Client {
    live::of(configuration, command.endpoint_url.as_deref())
}

fn of_profile(common: &Common, profile: &str) -> Common {
    Common {
        profile: Some(profile.to_owned()),
        ..common.clone()
    }
}

/// The roles of a rehearsal.
const ROLES: [Role; 5] = [
    Role::Signer,
    Role::Generator,
    Role::Retirement,
    Role::Administrator,
    Role::Lambda,
];
/// A changed policy takes effect after five minutes at most:
/// <https://docs.aws.amazon.com/kms/latest/developerguide/accessing-kms.html#programming-eventual-consistency>.
const PATIENCE: Duration = Duration::from_secs(300);
