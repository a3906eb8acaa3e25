//! `cloister kms rehearse`: does KMS itself decide as the table says? On throw-away keys of any
//! account.

mod call;
mod iam;
mod roles;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_config::{Region, SdkConfig};
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use clap::Args;
use cloister_key_policy::{Deployment, Expected, Form, Measurements, Pcr0, check, render};
use serde::Serialize;

use super::live;
use super::table::{Account, Action, Caller, Role, Table, policy_name};
use crate::answer::{Answer, table};
use crate::arguments::Common;
use crate::aws;
use crate::failure::{Failure, chain};
use call::{Outcome, Target, perform};
use roles::Roles;

#[derive(Args, Debug)]
pub(crate) struct Command {
    /// Do it, in this account. Without it the command only says what it would do
    #[arg(long, value_name = "ACCOUNT")]
    confirm: Option<String>,
    /// Profile of a principal of another account, to be refused as well
    #[arg(long, value_name = "NAME")]
    other_account_profile: Option<String>,
    /// KMS endpoint, when it is not AWS's
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    account: String,
    /// Keys that remain until their deletion is due.
    keys: Vec<String>,
    rows: Vec<Row>,
    /// Rows of the table that cannot be tried from here, and why.
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
            Failure::input(
                "there is no region: give --region, or set AWS_REGION or the profile's region",
            )
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
        return Err(Failure::Wrong("STS names no caller".to_owned()));
    };
    let name = format!("cloister-rehearsal-{}", const_hex::encode(random::<4>()?));
    let deployment = deployment(partition, account, &region, &name);

    match &command.confirm {
        Some(confirmed) if confirmed == account => {}
        Some(confirmed) => {
            return Err(Failure::Input(format!(
                "{arn} is of account {account}, not of {confirmed}: nothing was done"
            )));
        }
        None => {
            let plan = plan(&arn, &deployment, &name);
            return Err(Failure::Input(format!(
                "nothing was done. With --confirm {account} this is done,\n{plan}"
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
    /// Standard error belongs to the failure.
    quiet: bool,
    /// By Ctrl-C. Looked at between calls: one that is under way may have made something.
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
        // Whatever happened, roles do not stay, and keys are left only after their deletion was
        // asked for.
        let retired = match &outcome {
            Ok(()) => Ok(()),
            Err(_) => self.retire_all(&keys).await,
        };
        let cleaned = retired.and(self.roles.delete().await);
        if let Err(failure) = outcome {
            let keys = if keys.is_empty() {
                "no key was made".to_owned()
            } else {
                format!("keys made: {}", keys.join(" "))
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

    /// The open form first: the locked key is made only when the retirement role has been seen to
    /// get rid of a key.
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
            self.patiently(|| perform_describe(&client, &target))
                .await?;
            let again = self.table.callers.iter().filter(|caller| again(caller));
            let callers: Vec<_> = again.map(|caller| (caller, client.clone())).collect();
            self.rows_of(form, &callers, &target, rows).await?;
            self.retire(&target.arn).await?;
        }
        Ok(())
    }

    /// A key under the rendered policy. It begins under KMS's default policy, so that there are
    /// ciphertexts to be refused.
    async fn key(&self, name: &str, form: Form, keys: &mut Vec<String>) -> Result<Target, Failure> {
        let form_name = policy_name(form, &self.measurements);
        let created = self
            .operator
            .create_key()
            .description(format!("{name}: throw-away key, {form_name} form"))
            .send()
            .await
            .map_err(Failure::aws("CreateKey"))?;
        let arn = created
            .key_metadata
            .and_then(|key| key.arn)
            .ok_or_else(|| Failure::Wrong("KMS made a key without an ARN".to_owned()))?;
        keys.push(arn.clone());
        self.roles.allow(&arn).await?;

        let mut ciphertexts = BTreeMap::new();
        let purposes: BTreeMap<_, _> = self
            .table
            .actions
            .iter()
            .map(|action| (&action.purpose, action))
            .collect();
        for (purpose, action) in purposes {
            let encrypted = self
                .operator
                .encrypt()
                .key_id(&arn)
                .plaintext(Blob::new(*b"nothing"))
                .set_encryption_context(call::context(action))
                .send()
                .await
                .map_err(Failure::aws("Encrypt"))?;
            ciphertexts.insert(
                purpose.clone(),
                encrypted.ciphertext_blob.unwrap_or_else(|| Blob::new([])),
            );
        }
        let policy = render(&self.deployment, &self.measurements, form)
            .map_err(|error| Failure::Here(chain(&error)))?;
        self.operator
            .put_key_policy()
            .key_id(&arn)
            .policy_name("default")
            .policy(&policy)
            .bypass_policy_lockout_safety_check(true)
            .send()
            .await
            .map_err(Failure::aws("PutKeyPolicy"))?;
        self.holds(&arn, form).await?;
        Ok(Target {
            arn,
            policy,
            ciphertexts,
            grantee: self.deployment.signer_role.clone(),
        })
    }

    /// What KMS holds is what was put, as soon as it has told its machines.
    async fn holds(&self, arn: &str, form: Form) -> Result<(), Failure> {
        let expected = Expected {
            deployment: &self.deployment,
            signer: self.measurements.signer,
            generator: Some(self.measurements.generator),
            accept_open: true,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.go_on()?;
            let found = self
                .operator
                .get_key_policy()
                .key_id(arn)
                .policy_name("default")
                .send()
                .await;
            let found = found
                .map_err(Failure::aws("GetKeyPolicy"))?
                .policy
                .unwrap_or_default();
            match check(&found, &expected) {
                Ok(checked) if checked.form == form => return Ok(()),
                other if Instant::now() > deadline => {
                    let why = other
                        .err()
                        .map_or_else(|| "it is the other form".to_owned(), |error| chain(&error));
                    return Err(Failure::Wrong(format!(
                        "KMS holds another policy than was put: {why}"
                    )));
                }
                _ => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// IAM and KMS tell their machines in their own time: a denial counts only once the roles' own
    /// policies allow, and the key's default policy is gone.
    async fn settled(&self, target: &Target) -> Result<(), Failure> {
        for role in ROLES {
            let client = self.client(role).await?;
            self.patiently(|| perform_describe(&client, target)).await?;
        }
        let encrypt = self
            .table
            .actions
            .iter()
            .find(|action| action.action == "kms:Encrypt");
        let encrypt =
            encrypt.ok_or_else(|| Failure::Here("the table has no Encrypt".to_owned()))?;
        self.patiently(|| async {
            matches!(
                perform(&self.operator, target, encrypt).await,
                Some(Outcome::DeniedByPolicy { .. })
            )
        })
        .await
    }

    async fn patiently<F: Future<Output = bool>>(
        &self,
        condition: impl Fn() -> F,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            self.go_on()?;
            if Instant::now() > deadline {
                return Err(Failure::Here(format!(
                    "IAM and KMS did not settle within {} minutes",
                    PATIENCE.as_secs() / 60
                )));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
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

    /// What is to be denied comes first: what is allowed changes the key.
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
        // One machine of KMS may know the policy later than another.
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

    /// One cell of the table, and what was found.
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

    /// Why a caller cannot be played.
    fn why_not(&self, caller: &Caller) -> Option<&'static str> {
        match caller {
            Caller { image: Some(_), .. } => {
                Some("it takes an enclave to send an attestation document")
            }
            Caller {
                account: Account::Another,
                ..
            } if self.stranger.is_none() => Some("it takes --other-account-profile"),
            Caller {
                account: Account::Own,
                role: Role::Root,
                ..
            } => Some("it takes the root user's credentials"),
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
            "KMS has no dry run of it",
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

    async fn retire_all(&self, keys: &[String]) -> Result<(), Failure> {
        let mut first = Ok(());
        for key in keys {
            let scheduled = match self.retire(key).await {
                Ok(()) => Ok(()),
                // Before the rendered policy was put, the operator may.
                Err(_) => schedule(&self.operator, key).await,
            };
            if let Err(error) = scheduled {
                first = first.and(Err(Failure::Here(format!(
                    "the deletion of {key} is NOT scheduled: {error}"
                ))));
            }
        }
        first
    }

    /// Schedules the deletion as the retirement role.
    async fn retire(&self, key: &str) -> Result<(), Failure> {
        schedule(&self.client(Role::Retirement).await?, key).await
    }
}

async fn schedule(client: &Client, key: &str) -> Result<(), Failure> {
    match client
        .schedule_key_deletion()
        .key_id(key)
        .pending_window_in_days(30)
        .send()
        .await
    {
        Ok(_) => Ok(()),
        Err(error) => match Failure::aws("ScheduleKeyDeletion")(error) {
            Failure::Aws {
                code: Some(code), ..
            } if code == "KMSInvalidStateException" => Ok(()),
            failure => Err(failure),
        },
    }
}

async fn perform_describe(client: &Client, target: &Target) -> bool {
    client
        .describe_key()
        .key_id(&target.arn)
        .send()
        .await
        .is_ok()
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

fn deployment(partition: &str, account: &str, region: &str, name: &str) -> Deployment {
    let role = |role| {
        format!(
            "arn:{partition}:iam::{account}:role/{}",
            roles::name(name, role)
        )
    };
    Deployment {
        partition: partition.to_owned(),
        account: account.to_owned(),
        region: region.to_owned(),
        signer_role: role(Role::Signer),
        generator_role: role(Role::Generator),
        retirement_role: role(Role::Retirement),
        administrator_role: role(Role::Administrator),
    }
}

fn plan(arn: &str, deployment: &Deployment, name: &str) -> String {
    let Deployment {
        account, region, ..
    } = deployment;
    let roles: Vec<_> = ROLES.map(|role| roles::name(name, role)).into();
    format!(
        "\
as {arn}, in account {account}, region {region}:

  1. make five roles that the account may assume ({}; the number is another one each time)
     and that may do everything with the keys made here, and nothing else;
  2. make a KMS key, encrypt eight bytes under it, put the open form of the key policy on it for two images that do not exist, and
     try each action of the table of who may do what as each of these roles and as you, with DryRun where KMS has it;
  3. delete the retirement role, make it again under its name, and see that it still may what it may;
  4. do 2 and 3 once more with the locked form, which nobody can change again;
  5. schedule the deletion of both keys, and delete the roles.

It leaves behind: two keys that KMS deletes after 30 days, which is the time their policy demands, disabled until then and not charged
for; lines in CloudTrail. Ctrl-C cleans up as well. If it is killed, roles and keys of that name are left: make the retirement role
again under its name to schedule the deletion; nobody else can, once the policy is on a key.
It needs kms:CreateKey and everything on the keys made, iam:CreateRole, DeleteRole, PutRolePolicy, DeleteRolePolicy, sts:AssumeRole.
",
        roles.join(", ")
    )
}

fn text(report: &Report) -> String {
    let (held, wrong): (Vec<_>, Vec<_>) = report.rows.iter().partition(|row| row.ok);
    let mut text = format!(
        "{} of {} rows are as the table says, in account {}\n",
        held.len(),
        report.rows.len(),
        report.account
    );
    if !wrong.is_empty() {
        let cells = wrong.iter().map(|row| {
            [row.form, &row.caller, &row.action, row.expected, &row.found]
                .map(str::to_owned)
                .to_vec()
        });
        let header = ["form", "who", "does what", "expected", "found"];
        text.push_str(&format!("\n{}\n", table(Some(&header), cells)));
    }
    for (why, what) in &report.not_tried {
        text.push_str(&format!(
            "\nnot tried, because {why}: {}\n",
            what.join("; ")
        ));
    }
    text.push_str(&format!(
        "\nleft behind, to be deleted in 30 days: {}\n",
        report.keys.join(" ")
    ));
    text
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::Here(format!("there is no randomness: {error}")))?;
    Ok(bytes)
}

/// Of an image that does not exist.
fn random_pcr0() -> Result<Pcr0, Failure> {
    Pcr0::try_from(random()?).map_err(|error| Failure::Here(chain(&error)))
}

/// The roles that are made.
const ROLES: [Role; 5] = [
    Role::Signer,
    Role::Generator,
    Role::Retirement,
    Role::Administrator,
    Role::Lambda,
];
/// KMS says that a changed policy is in effect after five minutes at most:
/// <https://docs.aws.amazon.com/kms/latest/developerguide/accessing-kms.html#programming-eventual-consistency>.
const PATIENCE: Duration = Duration::from_secs(300);
