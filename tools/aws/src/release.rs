//! The deployed release: the key admits its images, and an update must not take that away from
//! pods that run.

use anyhow::Result;
use cloister_contract::Service;

use crate::artefacts;
use crate::commands::{Commands, Line};
use crate::deployment::Deployment;
use crate::error::{Error, code};
use crate::prerequisites::tolerated;
use crate::stack::{Stack, State};

/// The key's policy is replaced before the pods are.
///
/// # Errors
/// If this is production, there are pods, and the deployed key does not admit the images. Elsewhere
/// it is told.
pub(crate) fn refuse_interruption(deployment: &Deployment, commands: &Commands) -> Result<()> {
    let Some(policy) = tolerated(key_policy(deployment, commands), commands)? else {
        return Ok(());
    };
    let stacks = deployment.replaceable_stacks();
    let pods = stacks.last().map_or("", String::as_str);
    if Stack::new(commands, pods).state()? == State::Missing {
        return Ok(());
    }
    let directory = artefacts::directory(deployment);
    let measured = artefacts::measurements(directory, commands)?;
    let admitted = Service::ALL.iter().all(|service| {
        let pcr0 = measured["images"][service.name()]["pcr0"].as_str();
        pcr0.is_some_and(|pcr0| policy.contains(pcr0))
    });
    let other = Error::OtherRelease {
        directory: directory.to_owned(),
    };
    match (admitted, deployment.is_production()) {
        (true, _) => Ok(()),
        (false, true) => Err(other.into()),
        (false, false) => {
            commands.say(&format!(
                "  goes on, because this is no production: {other}"
            ));
            Ok(())
        }
    }
}

/// The text of the deployed key's policy; `None` if there is no key, and in a dry run.
fn key_policy(deployment: &Deployment, commands: &Commands) -> Result<Option<String>> {
    let name = deployment.parameter("key_id");
    let parameter = Line::aws(["ssm", "get-parameter", "--name", name.as_str()]).args([
        "--query",
        "Parameter.Value",
        "--output",
        "text",
    ]);
    let key = match commands.value("KEY_ID", &parameter) {
        Err(error) if code(&error) == "ParameterNotFound" => return Ok(None),
        key => key?,
    };
    let policy = Line::aws(["kms", "get-key-policy", "--key-id", key.as_str()]);
    commands.read(&policy.args(["--policy-name", "default", "--query", "Policy"]))
}
