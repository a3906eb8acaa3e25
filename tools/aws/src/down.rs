//! `cargo aws down`: removes the deployment, and on request its keys.

use std::io::{BufRead as _, Write as _};

use anyhow::{Result, bail};
use clap::Args;

use crate::commands::{Commands, Line};
use crate::deployment::{Deployment, Target};
use crate::error::{Error, code};
use crate::prerequisites::{self, json};
use crate::remains;
use crate::stack::{Stack, State};
use crate::up::SESSION;

/// Options of `cargo aws down`.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Also schedule the deletion of the CMK, with which every key is lost, and remove the rest
    #[arg(long)]
    with_keys: bool,
    /// The CMK's id, in place of typing it
    #[arg(long, value_name = "KEY_ID", requires = "with_keys")]
    confirm: Option<String>,
    /// Print every command in order, and run none
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Runs `cargo aws down`.
///
/// # Errors
/// If a step fails; the next run goes on with it.
pub fn run(arguments: &Arguments, deployment: &Deployment, commands: &Commands) -> Result<()> {
    commands.say("packages: the CDK and its libraries");
    commands.install_cdk()?;
    commands.say("account: the credentials are of this account");
    prerequisites::account(deployment, commands)?;
    commands.say("platform: no stack of another one needs what is removed");
    refuse_other_platform(arguments.with_keys, deployment, commands)?;
    let key = match arguments.with_keys {
        true => key_to_delete(arguments, deployment, commands)?,
        false => None,
    };
    for stack in deployment.replaceable_stacks().iter().rev() {
        commands.say(&format!(
            "{stack}: up to 90 minutes, for the network of functions"
        ));
        destroy(stack, &[], commands)?;
    }
    if arguments.with_keys {
        if let Some(key) = &key {
            commands.say("CMK: deleted in 30 days, until which it can be cancelled");
            schedule_deletion(key, deployment, commands)?;
        }
        for stack in [deployment.key_stack(), deployment.base_stack()] {
            commands.say(&format!("{stack}: without its protection, then removed"));
            unprotect(&stack, deployment, commands)?;
            destroy(&stack, WITH_KEYS, commands)?;
        }
    }
    remains::print(deployment, commands)
}

/// Nothing is removed if that would remove nothing of what runs, or the keys of what runs.
fn refuse_other_platform(
    with_keys: bool,
    deployment: &Deployment,
    commands: &Commands,
) -> Result<()> {
    let exists = |stack: &str| -> Result<bool> {
        Ok(Stack::new(commands, stack).state()? != State::Missing)
    };
    let mut others = Vec::new();
    for (stack, platform) in deployment.other_stacks() {
        if exists(&stack)? {
            others.push((stack, platform));
        }
    }
    let Some((stack, platform)) = others.into_iter().next() else {
        return Ok(());
    };
    if !with_keys {
        for own in deployment.replaceable_stacks() {
            if exists(&own)? {
                return Ok(());
            }
        }
    }
    bail!(Error::OtherPlatform {
        stack,
        chosen: deployment.platform.variant(),
        other: platform.variant(),
    })
}

/// The CMK's id, after the operator has typed it; `None` if there is no CMK.
fn key_to_delete(
    arguments: &Arguments,
    deployment: &Deployment,
    commands: &Commands,
) -> Result<Option<String>> {
    commands.say("CMK: its id is asked for, because every key is lost with it");
    let name = deployment.parameter("key_id");
    let line = Line::new(["aws", "ssm", "get-parameter", "--name", name.as_str()]).args([
        "--query",
        "Parameter.Value",
        "--output",
        "text",
    ]);
    let key = match commands.value("KEY_ID", &line) {
        Err(error) if code(&error) == "ParameterNotFound" => return Ok(None),
        key => key?,
    };
    if commands.is_dry() {
        return Ok(Some(key));
    }
    let given = match &arguments.confirm {
        Some(given) => given.clone(),
        None => {
            eprint!(
                "Every key under the CMK {key} of {} in {} is lost in 30 days.\nIts id: ",
                deployment.account, deployment.region
            );
            std::io::stderr().flush()?;
            let mut typed = String::new();
            std::io::stdin().lock().read_line(&mut typed)?;
            typed.trim().to_owned()
        }
    };
    match given == key {
        true => Ok(Some(key)),
        false => Err(Error::NotConfirmed {
            expected: key,
            given,
        }
        .into()),
    }
}

/// Only the retirement role may, and only with this window.
fn schedule_deletion(key: &str, deployment: &Deployment, commands: &Commands) -> Result<()> {
    let describe = Line::aws(["kms", "describe-key", "--key-id", key])
        .args(["--query", "KeyMetadata.KeyState"]);
    if json(commands, &describe)?.is_some_and(|state| state == "PendingDeletion") {
        return Ok(());
    }
    let session = Line::new(["aws", "sts", "assume-role", "--role-arn"])
        .args([
            deployment.role("retirement").as_str(),
            "--role-session-name",
            "retirement",
        ])
        .args(["--query", SESSION, "--output", "text"]);
    let schedule = Line::new(["aws", "kms", "schedule-key-deletion", "--key-id", key])
        .args(["--pending-window-in-days", WINDOW]);
    commands.run_as(&session, &schedule)
}

/// An update that changes the protection of table and roles only, and that of the stack.
fn unprotect(stack: &str, deployment: &Deployment, commands: &Commands) -> Result<()> {
    let of = Stack::new(commands, stack);
    let is_base = stack == deployment.base_stack();
    match is_base {
        true => of.prepare()?,
        false => of.wait()?,
    }
    if is_missing(&of, commands)? {
        return Ok(());
    }
    if is_base {
        let line = Line::cdk([
            "deploy",
            stack,
            "--exclusively",
            "--require-approval",
            "never",
        ])
        .args(["--progress", "events"])
        .args(DESTROY.iter().chain(WITH_KEYS).copied());
        of.attempt(&line, &format!("updating {stack}"))?;
    }
    of.unprotect()
}

fn destroy(stack: &str, context: &[&str], commands: &Commands) -> Result<()> {
    let of = Stack::new(commands, stack);
    of.wait()?;
    if is_missing(&of, commands)? {
        commands.say("  it does not exist");
        return Ok(());
    }
    let line = Line::cdk(["destroy", stack, "--exclusively", "--force"])
        .args(DESTROY.iter().chain(context).copied());
    of.attempt(&line, &format!("destroying {stack}"))
}

/// Unknown in a dry run.
fn is_missing(stack: &Stack, commands: &Commands) -> Result<bool> {
    Ok(!commands.is_dry() && stack.state()? == State::Missing)
}

/// Stacks are synthesized without their contents, so that nothing has to be built.
const DESTROY: &[&str] = &["-c", "destroy=true"];
const WITH_KEYS: &[&str] = &["-c", "with-keys=true"];

/// Days: the key policy allows no other window.
const WINDOW: &str = "30";
