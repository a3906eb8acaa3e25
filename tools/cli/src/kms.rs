//! `cloister kms`: the policy of the KMS key.

mod live;
mod rehearse;
mod release;
mod table;
mod verify_policy;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use cloister_contract::ErrorChain;
use cloister_key_policy::Form;

use crate::answer::Answer;
use crate::failure::Failure;
use crate::options::Common;
use release::{Previous, ReleaseFiles};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the key policy of a release
    Render(Render),
    /// Print the permissions under a key policy, and whether it is exactly a release's
    VerifyPolicy(verify_policy::Command),
    /// Try the key policy on KMS itself, with throw-away keys in this account
    ///
    /// Without --confirm it prints the plan and what remains, and does nothing.
    Rehearse(rehearse::Command),
}

/// Print the key policy of a release
#[derive(Args, Debug)]
pub(crate) struct Render {
    #[command(flatten)]
    release: ReleaseFiles,
    /// In the open form the administrator role may replace the policy
    #[arg(long, default_value = "open")]
    form: FormName,
    /// PCR0 of the previous release's key generator, or its measurements.json: it may also generate
    /// data keys
    #[arg(long, value_name = "PCR0|FILE")]
    previous_generator: Option<Previous>,
    /// measurements.json of the next release: both are admitted (open form only)
    #[arg(long, value_name = "FILE")]
    next: Option<PathBuf>,
}

/// The form of a key policy.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormName {
    /// The administrator role may replace the policy
    Open,
    /// No principal may replace the policy
    Locked,
}

pub(crate) async fn run(command: Command, common: &Common) -> Result<Answer, Failure> {
    match command {
        Command::Render(command) => render(&command),
        Command::VerifyPolicy(command) => verify_policy::run(&command, common).await,
        Command::Rehearse(command) => rehearse::run(&command, common).await,
    }
}

fn render(command: &Render) -> Result<Answer, Failure> {
    let release = command.release.read()?;
    let mut measurements = release.measurements;
    measurements.next = command
        .next
        .as_deref()
        .map(|file| release::next(file, &release.deployment))
        .transpose()?;
    measurements.previous_generator = command
        .previous_generator
        .as_ref()
        .map(|previous| previous.0);
    let form = match command.form {
        FormName::Open => Form::Open,
        FormName::Locked => Form::Locked,
    };
    let policy = cloister_key_policy::render(&release.deployment, &measurements, form)
        .map_err(|error| Failure::Input(ErrorChain(&error).to_string()))?;
    for warning in release.why_not_adopted(form, measurements.previous_generator.is_some()) {
        eprintln!("note: {warning}");
    }
    let policy: serde_json::Value =
        serde_json::from_str(&policy).expect("a rendered policy is JSON");
    Ok(Answer::verbatim(format!("{policy:#}")))
}
