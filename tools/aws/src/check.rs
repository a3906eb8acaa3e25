//! `cargo aws check`: runs the rows of `docs/hardware-checked.md` against a deployment.

mod judge;
mod line;
mod page;
mod programs;
mod redaction;
mod row;
mod rows;
mod runner;
mod system;
mod transcript;

#[cfg(test)]
mod scripts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, anyhow, bail};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use cloister_toolchain::cargo::workspace_root;
use cloister_toolchain::command::output;
use fs_err as fs;
use serde_json::Value;

use crate::Environment;
use crate::check::judge::Verdict;
use crate::check::line::Variables;
use crate::check::page::{Seen, escaped, seen, with_tables};
use crate::check::programs::Call;
use crate::check::redaction::redacted;
use crate::check::row::{Check, Row};
use crate::check::rows::rows;
use crate::check::runner::{PAUSE, Runner, credentials, is_absent};
use crate::check::system::{System, catch_interruptions};
use crate::commands::{Commands, quoted};
use crate::deployment::{Deployment, Target};
use crate::error::Error;

/// Options of `cargo aws check`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The deployment
    #[command(flatten)]
    pub target: Target,
    /// Only these rows of docs/hardware-checked.md
    #[arg(long, value_name = "ID", num_args = 1..)]
    row: Vec<String>,
    /// Also rows that change the deployment and put it back: prefixes that begin with dev or test
    #[arg(long)]
    destructive: bool,
    /// Write what was seen into docs/hardware-checked.md
    #[arg(long)]
    write: bool,
    /// The measurements of the deployed release
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/images/deployment/measurements.json"
    )]
    measurements: String,
    /// Print the commands and run none
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs `cargo aws check`.
///
/// # Errors
/// If a row does not hold or could not be checked; with one sentence, if no row can be checked.
pub(crate) fn run(
    arguments: &Arguments,
    deployment: &Deployment,
    commands: Commands,
) -> Result<()> {
    let chosen = chosen(arguments, deployment)?;
    let given = given(arguments, deployment, Utc::now());
    if arguments.dry_run {
        print!(
            "{}{}",
            preamble(&given, deployment),
            transcript::transcript(chosen.into_iter())
        );
        return Ok(());
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    catch_interruptions(&interrupted)?;
    let runner = Runner {
        programs: Arc::new(System::new(commands, Arc::clone(&interrupted))),
        variables: given,
        environment: BTreeMap::new(),
        credentials: BTreeMap::new(),
        pause: PAUSE,
        interrupted,
    };
    let (runner, place) = prepare(runner, deployment, &std::env::vars().collect())?;
    let mut found = Vec::new();
    let ended = check(&runner, &chosen, &mut found);
    if arguments.write {
        let commit = commit()?;
        write(
            &workspace_root().join("docs/hardware-checked.md"),
            &found,
            &place,
            &commit,
        )?;
    }
    ended?;
    summary(&found)
}

/// The rows to run.
///
/// # Errors
/// If a row is unknown or must not run against this deployment.
fn chosen(arguments: &Arguments, deployment: &Deployment) -> Result<Vec<&'static Row>> {
    let throw_away = ["dev", "test"]
        .iter()
        .any(|begin| deployment.prefix.starts_with(begin));
    if arguments.destructive && !throw_away {
        bail!(
            "--destructive is for deployments whose --prefix begins with dev or test, and this one's is \
             `{}`: leave it out, or deploy one to throw away",
            deployment.prefix
        );
    }
    for id in &arguments.row {
        let row = rows().find(|row| row.id == id);
        let row =
            row.ok_or_else(|| anyhow!("--row {id}: docs/hardware-checked.md has no such row"))?;
        match &row.check {
            Check::ByHand(how) => bail!("--row {id}: it is checked by hand: {how}"),
            Check::Destructive { .. } if !arguments.destructive => {
                bail!("--row {id}: it changes the deployment: add --destructive")
            }
            _ => {}
        }
    }
    let named =
        |row: &&Row| arguments.row.is_empty() || arguments.row.iter().any(|id| id == row.id);
    let runs = |row: &&Row| match row.check {
        Check::Run(_) => true,
        Check::Destructive { .. } => arguments.destructive,
        Check::ByHand(_) => false,
    };
    Ok(rows().filter(named).filter(runs).collect())
}

/// Variables of the rows that follow from the options.
fn given(arguments: &Arguments, deployment: &Deployment, now: DateTime<Utc>) -> Variables {
    let other = match deployment.region.as_str() {
        "us-east-1" => "us-west-2",
        _ => "us-east-1",
    };
    let parameters = deployment.parameter("");
    let time = |time: DateTime<Utc>| time.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    [
        ("P", deployment.prefix.clone()),
        ("NAME", deployment.name("").trim_end_matches('-').to_owned()),
        ("ACCOUNT", deployment.account.clone()),
        ("REGION", deployment.region.clone()),
        ("OTHER_REGION", other.to_owned()),
        ("PARTITION", deployment.partition().to_owned()),
        ("PARAMETERS", parameters.trim_end_matches('/').to_owned()),
        ("MEASUREMENTS", arguments.measurements.clone()),
        ("STARTED", time(now)),
        ("STARTED_MS", now.timestamp_millis().to_string()),
        ("EARLIER", time(now - TimeDelta::hours(3))),
        ("ENDS", time(now + TimeDelta::hours(12))),
    ]
    .into_iter()
    .chain(platform(deployment))
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// The cluster of the deployment. Rows about the other platform do not apply to it.
fn platform(deployment: &Deployment) -> Option<(&'static str, String)> {
    match deployment.given("CDK_VARIANT") {
        None | Some("eks") => Some(("CLUSTER", deployment.name("cluster"))),
        Some("ecs") => Some(("ECS_CLUSTER", deployment.name("pods"))),
        Some(_) => None,
    }
}

/// Facts about the deployment, which a run learns before the first row.
const FACTS: &[(&str, &str)] = &[
    (
        "KEY_ID",
        "aws ssm get-parameter --name $PARAMETERS/key_id --query Parameter.Value",
    ),
    (
        "URL",
        "aws ssm get-parameter --name $PARAMETERS/rest_url --query Parameter.Value",
    ),
    (
        "MACHINES",
        "aws ec2 describe-instances --filters Name=tag:eks:cluster-name,Values=$CLUSTER \
         Name=instance-state-name,Values=running --query 'Reservations[].Instances[].InstanceId'",
    ),
    (
        "TYPES",
        "aws ec2 describe-instances --filters Name=tag:eks:cluster-name,Values=$CLUSTER \
         Name=instance-state-name,Values=running --query 'Reservations[].Instances[].InstanceType'",
    ),
];

/// A place of rows that held.
#[derive(Debug)]
struct Place {
    date: String,
    region: String,
    machine: String,
}

/// Learns the facts.
///
/// # Errors
/// Without valid credentials of this account, or if there is no such deployment.
fn prepare(
    mut runner: Runner,
    deployment: &Deployment,
    environment: &Environment,
) -> Result<(Runner, Place)> {
    let ask = |runner: &Runner, line: &str| {
        let Ok(words) = line::words(line, &runner.variables) else {
            // Of the other platform.
            return Ok(Ok(Value::Null));
        };
        let call = Call {
            words,
            environment: runner.environment.clone(),
            ..Call::default()
        };
        runner.answer(&call)
    };
    let account = ask(&runner, "aws sts get-caller-identity --query Account")?;
    let actual = account.map_err(|error| anyhow!(error))?;
    if actual.as_str() != Some(&deployment.account) {
        return Err(Error::WrongAccount {
            expected: deployment.account.clone(),
            actual: actual.as_str().unwrap_or_default().to_owned(),
        }
        .into());
    }
    for (name, line) in FACTS {
        let value = match ask(&runner, line)? {
            Ok(Value::Array(list)) => {
                let list = list.iter().filter_map(Value::as_str);
                list.collect::<Vec<_>>().join(" ")
            }
            Ok(value) => value.as_str().unwrap_or_default().to_owned(),
            Err(error) if is_absent(&error) => String::new(),
            Err(error) => return Err(error.into()),
        };
        if !value.is_empty() {
            runner.variables.insert((*name).to_owned(), value);
        }
    }
    let known = |name: &str| runner.variables.get(name).cloned();
    if known("KEY_ID").is_none() && known("URL").is_none() {
        bail!(
            "{} has no deployment with the prefix `{}`: correct --region or --prefix, or deploy it with `cargo aws up`",
            deployment.region,
            deployment.prefix
        );
    }
    let mut derived = Variables::new();
    if let Some(id) = known("KEY_ID") {
        let (partition, region, account) = (
            deployment.partition(),
            &deployment.region,
            &deployment.account,
        );
        derived.insert(
            "KEY_ARN".into(),
            format!("arn:{partition}:kms:{region}:{account}:key/{id}"),
        );
    }
    if let Some(url) = known("URL") {
        let host = url.trim_start_matches("https://");
        derived.insert(
            "API".into(),
            host.split('.').next().unwrap_or_default().to_owned(),
        );
        derived.insert("URL".into(), url.trim_end_matches('/').to_owned());
    }
    if let Some(machine) =
        known("MACHINES").and_then(|all| all.split(' ').next().map(str::to_owned))
    {
        derived.insert("MACHINE".into(), machine);
    }
    let types = known("TYPES").unwrap_or_default();
    derived.insert("CLOISTER_SECRET".into(), random()?);
    derived.insert("WRONG_SECRET".into(), random()?);
    derived.insert("NONCE".into(), random()?);
    runner.variables.extend(derived);
    for name in ["CLOISTER_SECRET", "WRONG_SECRET", "URL"] {
        if let Some(value) = runner.variables.get(name) {
            let name = if name == "URL" {
                "CLOISTER_ENDPOINT"
            } else {
                name
            };
            runner.environment.insert(name.to_owned(), value.clone());
        }
    }
    runner.credentials = operator(&runner, environment)?;
    let place = Place {
        date: Utc::now().format("%Y-%m-%d").to_string(),
        region: deployment.region.clone(),
        machine: match types.split(' ').collect::<BTreeSet<_>>() {
            types if types.contains("") => "no machine".into(),
            types => types.into_iter().collect::<Vec<_>>().join(" and "),
        },
    };
    Ok((runner, place))
}

/// The operator's credentials, for programs other than `aws`, which do not know single sign-on. None
/// with version 1 of the aws tool, which cannot export any: programs then search for themselves.
fn operator(runner: &Runner, environment: &Environment) -> Result<Environment> {
    let given = |name: &str| environment.get(name).cloned().unwrap_or_default();
    let mut found = credentials(
        given("AWS_ACCESS_KEY_ID"),
        given("AWS_SECRET_ACCESS_KEY"),
        given("AWS_SESSION_TOKEN"),
    );
    if found["AWS_SECRET_ACCESS_KEY"].is_empty() {
        let call = Call {
            words: ["aws", "configure", "export-credentials"]
                .map(str::to_owned)
                .into(),
            ..Call::default()
        };
        let answer = runner.answer(&call)?.unwrap_or_default();
        let of = |member: &str| answer[member].as_str().unwrap_or_default().to_owned();
        found = credentials(of("AccessKeyId"), of("SecretAccessKey"), of("SessionToken"));
    }
    found.retain(|_, value| !value.is_empty());
    Ok(found)
}

/// A secret of 32 bytes.
fn random() -> Result<String> {
    use std::io::Read as _;
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs rows. One that fails does not stop the others.
///
/// # Errors
/// With one sentence, if the others cannot be checked either; what was found so far is in `found`.
fn check(
    runner: &Runner,
    rows: &[&'static Row],
    found: &mut Vec<(&'static Row, Verdict)>,
) -> Result<()> {
    for (at, row) in rows.iter().enumerate() {
        eprintln!("[{}/{}] {}: {}", at + 1, rows.len(), row.id, row.claim);
        let verdict = runner.check(row)?;
        eprintln!("        {}", told(&verdict));
        found.push((row, verdict));
    }
    Ok(())
}

fn told(verdict: &Verdict) -> String {
    let (what, text) = match verdict {
        Verdict::Held(text) => ("held", text),
        Verdict::NotHeld(text) => ("NOT HELD", text),
        Verdict::NotChecked(text) => ("could not be checked", text),
        Verdict::NotApplicable(text) => ("not part of this deployment", text),
    };
    match text.is_empty() {
        true => what.to_owned(),
        false => format!("{what}: {}", redacted(text)),
    }
}

/// # Errors
/// If a row did not hold or could not be checked.
fn summary(found: &[(&'static Row, Verdict)]) -> Result<()> {
    let ids = |of: fn(&Verdict) -> bool| {
        let ids = found.iter().filter(|(_, verdict)| of(verdict));
        ids.map(|(row, _)| row.id).collect::<Vec<_>>()
    };
    let held = ids(Verdict::held).len();
    let failed = ids(|verdict| matches!(verdict, Verdict::NotHeld(_)));
    let unknown = ids(|verdict| matches!(verdict, Verdict::NotChecked(_)));
    println!("{held} of {} rows held", found.len());
    if failed.is_empty() && unknown.is_empty() {
        return Ok(());
    }
    let list = |what: &str, ids: &[&str]| match ids {
        [] => String::new(),
        ids => format!("{}: {}", what, ids.join(", ")),
    };
    let lists = [
        list("did not hold", &failed),
        list("could not be checked", &unknown),
    ];
    let lists: Vec<_> = lists.into_iter().filter(|list| !list.is_empty()).collect();
    bail!("{}", lists.join("; "))
}

/// Writes what was seen into the page. A row that could not be checked keeps what was seen before.
fn write(
    page: &Path,
    found: &[(&'static Row, Verdict)],
    place: &Place,
    commit: &str,
) -> Result<()> {
    let text = fs::read_to_string(page)?;
    let mut all = seen(&text);
    record(&mut all, found, place, commit);
    Ok(fs::write(page, with_tables(&text, &all)?)?)
}

fn record(all: &mut Seen, found: &[(&'static Row, Verdict)], place: &Place, commit: &str) {
    let Place {
        date,
        region,
        machine,
    } = place;
    for (row, verdict) in found {
        let (what, text) = match verdict {
            Verdict::Held(text) => ("held", text),
            Verdict::NotHeld(text) => ("**did not hold**", text),
            Verdict::NotChecked(text) if !all.contains_key(row.id) => {
                ("could not be checked", text)
            }
            _ => continue,
        };
        let text = redacted(text).replace('`', "'");
        let text = match text.is_empty() {
            true => String::new(),
            false => format!(": `{}`", escaped(&text)),
        };
        all.insert(
            row.id.to_owned(),
            format!("{what}, {date}, {region}, {machine}, {commit}{text}"),
        );
    }
}

/// The commit of the tree, and whether it was changed since.
fn commit() -> Result<String> {
    let git = |arguments: &[&str]| {
        output(
            Command::new("git")
                .args(arguments)
                .current_dir(workspace_root()),
        )
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Ok(if changed.is_empty() {
        commit
    } else {
        format!("{commit} with changes")
    })
}

/// Lines that set the variables of a transcript.
fn preamble(given: &Variables, deployment: &Deployment) -> String {
    let mut text = String::new();
    for (name, value) in given {
        let value = match name.as_str() {
            "STARTED" => "$(date -u +%FT%TZ)".into(),
            "STARTED_MS" => "$(date +%s000)".into(),
            "EARLIER" => "$(date -u -d '3 hours ago' +%FT%TZ)".into(),
            "ENDS" => "$(date -u -d '12 hours' +%FT%TZ)".into(),
            _ => quoted(value),
        };
        text.push_str(&format!("{name}={value}\n"));
    }
    text.push_str(&format!(
        "export AWS_REGION={} AWS_DEFAULT_REGION={0} AWS_DEFAULT_OUTPUT=json\n",
        deployment.region
    ));
    text.push_str(SHELL);
    for (name, line) in FACTS.iter().filter(|(name, _)| *name != "TYPES") {
        text.push_str(&format!("{name}=$({line} --output text)\n"));
    }
    text.push_str(DERIVED);
    text
}

const SHELL: &str = r#"OPERATOR=$(aws configure export-credentials --format env 2> /dev/null || export -p | grep AWS_)
as_operator() { unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN; eval "$OPERATOR"; }
assume() { set -- $(aws sts assume-role --role-arn "$1" --role-session-name cloister-check --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]' --output text); export AWS_ACCESS_KEY_ID="$1" AWS_SECRET_ACCESS_KEY="$2" AWS_SESSION_TOKEN="$3"; }
cloister() { cargo run --quiet --package cloister-cli -- "$@"; }
# Signed requests, without credentials in the list of processes.
curl() { case " $* " in *' --aws-sigv4 '*) printf 'user = "%s:%s"\nheader = "x-amz-security-token: %s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" "$AWS_SESSION_TOKEN" | command curl "$@" --config - ;; *) command curl "$@" ;; esac; }
"#;

const DERIVED: &str = r#"KEY_ARN=arn:$PARTITION:kms:$REGION:$ACCOUNT:key/$KEY_ID
URL=${URL%/}
API=${URL#https://}
API=${API%%.*}
MACHINE=${MACHINES%%[[:space:]]*}
CLOISTER_SECRET=$(openssl rand -hex 32)
WRONG_SECRET=$(openssl rand -hex 32)
NONCE=$(openssl rand -hex 32)
export CLOISTER_ENDPOINT=$URL CLOISTER_SECRET WRONG_SECRET
as_operator
"#;
