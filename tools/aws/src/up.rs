//! `cargo aws up`: builds what is missing, deploys, and waits.

use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use crate::artefacts::{self, Artefact, SETTINGS};
use crate::commands::{Commands, Line, elapsed};
use crate::deployment::{Deployment, Platform, Target};
use crate::error::{Error, code};
use crate::prerequisites::{self, json};
use crate::release;
use crate::stack::{Stack, State};

/// Options of `cargo aws up`.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Keep what a failed deployment made, for a look at the cause; the next run removes it
    #[arg(long)]
    no_rollback: bool,
    /// Print every command in order, and run none
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A step. Each can be repeated: it looks at what is there first.
struct Step {
    name: &'static str,
    /// In the words of its heading.
    why: &'static str,
    is_done: fn(&Deployment, &Commands) -> Result<bool>,
    run: fn(&Deployment, &mut Commands) -> Result<()>,
}

/// Runs `cargo aws up`.
///
/// # Errors
/// If a step fails; it is found done or repeated by the next run.
pub fn run(arguments: &Arguments, deployment: &Deployment, commands: &mut Commands) -> Result<()> {
    let deployment = &deployment.clone().with_rollback(!arguments.no_rollback);
    if deployment.platform == Platform::Identities {
        bail!(Error::Option {
            option: "CDK_VARIANT",
            value: "`identities`".to_owned(),
            expected: "eks or ecs, or follow docs/existing-platforms.md for a cluster of your own",
        });
    }
    for (index, step) in STEPS.iter().enumerate() {
        let heading = format!("{}/{} {}: {}", index + 1, STEPS.len(), step.name, step.why);
        if !commands.is_dry() && (step.is_done)(deployment, commands)? {
            commands.say(&format!("{heading}: done before"));
            continue;
        }
        commands.say(&heading);
        let began = Instant::now();
        (step.run)(deployment, commands)?;
        if !commands.is_dry() && began.elapsed().as_secs() > 0 {
            commands.say(&format!("  {} in {}", step.name, elapsed(began)));
        }
    }
    ending(deployment, commands)
}

const STEPS: &[Step] = &[
    Step {
        name: "machine",
        why: "a Debian that can build images",
        is_done: never,
        run: |deployment, commands| prerequisites::machine(deployment, commands),
    },
    Step {
        name: "packages",
        why: "the CDK and its libraries",
        is_done: never,
        run: |_, commands| commands.install_cdk(),
    },
    Step {
        name: "settings",
        why: "the configuration is checked, and measured into both images",
        is_done: never,
        run: |_, commands| {
            let settings = Line::new(["npm", "run", "--silent", "settings"]).within("cdk");
            commands.run(&settings.into_file(SETTINGS), "writing the settings")
        },
    },
    Step {
        name: "account",
        why: "the credentials are of this account",
        is_done: never,
        run: |deployment, commands| prerequisites::account(deployment, commands),
    },
    Step {
        name: "region",
        why: "it has machines with enclaves, and the quotas suffice",
        is_done: never,
        run: |deployment, commands| prerequisites::region(deployment, commands),
    },
    Step {
        name: "images",
        why: "the enclave images of this deployment",
        is_done: |deployment, commands| {
            all_current(&artefacts::images(deployment, commands)?, commands)
        },
        run: |deployment, commands| {
            let images = artefacts::images(deployment, commands)?;
            images.iter().try_for_each(|images| images.build(commands))
        },
    },
    Step {
        name: "containers",
        why: "the pods' container images",
        is_done: |deployment, commands| {
            let containers = artefacts::containers(deployment);
            all_current(containers.iter().map(|each| &each.artefact), commands)
        },
        run: |deployment, commands| {
            let containers = artefacts::containers(deployment);
            containers
                .iter()
                .try_for_each(|each| each.artefact.build(commands))
        },
    },
    Step {
        name: "function",
        why: "the front door's package",
        is_done: |deployment, commands| all_current(&artefacts::function(deployment), commands),
        run: |deployment, commands| {
            let function = artefacts::function(deployment);
            function.iter().try_for_each(|each| each.build(commands))
        },
    },
    Step {
        name: "release",
        why: "pods that run keep their access to the key",
        is_done: never,
        run: |deployment, commands| release::refuse_interruption(deployment, commands),
    },
    Step {
        name: "bootstrap",
        why: "the CDK's own stack, once in each region of an account",
        is_done: |_, commands| Ok(Stack::new(commands, BOOTSTRAP).state()? == State::Settled),
        run: |deployment, commands| {
            let stack = Stack::new(commands, BOOTSTRAP);
            stack.prepare()?;
            let environment = format!("aws://{}/{}", deployment.account, deployment.region);
            // Without `--app ''` the CDK would synthesize the deployment first.
            let line = Line::cdk(["bootstrap", environment.as_str(), "--app", ""]);
            stack.attempt(&line, "bootstrapping the CDK")
        },
    },
    Step {
        name: "base",
        why: "roles, table and the repository of container images",
        is_done: never,
        run: |deployment, commands| deploy(&deployment.base_stack(), deployment, commands),
    },
    Step {
        name: "key",
        why: "the CMK, which admits these images alone",
        is_done: never,
        run: |deployment, commands| deploy(&deployment.key_stack(), deployment, commands),
    },
    Step {
        name: "push",
        why: "the container images, by their digests",
        is_done: |deployment, _| Ok(artefacts::containers(deployment).is_empty()),
        run: |deployment, commands| {
            let containers = artefacts::containers(deployment);
            containers
                .iter()
                .try_for_each(|each| each.push(deployment, commands))
        },
    },
    Step {
        name: "certificate",
        why: "of the pods, made once; on Kubernetes the cluster makes it",
        is_done: |deployment, commands| {
            Ok(deployment.platform != Platform::Ecs
                || has_secret(&deployment.name(POD_TLS), commands)?)
        },
        run: |deployment, commands| {
            let make = Line::new(["npm", "run", "--silent", "pod-tls"]).within("cdk");
            let store = Line::aws(["secretsmanager", "create-secret", "--name"])
                .args([deployment.name(POD_TLS).as_str(), "--secret-string"])
                .args(["file:///dev/stdin"]);
            match deployment.platform {
                Platform::Ecs => commands.pipe(&make, &store),
                _ => Ok(()),
            }
        },
    },
    Step {
        name: "machines and pods",
        why: "the first time half an hour",
        is_done: never,
        run: |deployment, commands| {
            if deployment.platform == Platform::Ecs {
                service_linked_role(commands)?;
            }
            let stacks = deployment.replaceable_stacks();
            stacks
                .iter()
                .try_for_each(|stack| deploy(stack, deployment, commands))
        },
    },
    Step {
        name: "ready",
        why: "every pod answers the load balancer",
        is_done: never,
        run: wait,
    },
];

fn never(_: &Deployment, _: &Commands) -> Result<bool> {
    Ok(false)
}

fn all_current<'a>(
    artefacts: impl IntoIterator<Item = &'a Artefact>,
    commands: &Commands,
) -> Result<bool> {
    for artefact in artefacts {
        if !artefact.is_current(commands)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A secret whose deletion is scheduled has its name until then: it is restored.
fn has_secret(name: &str, commands: &Commands) -> Result<bool> {
    let of = |operation| Line::aws(["secretsmanager", operation, "--secret-id", name]);
    let describe = of("describe-secret").args(["--query", "DeletedDate"]);
    let deleted = match json(commands, &describe) {
        Err(error) if code(&error) == "ResourceNotFoundException" => return Ok(false),
        deleted => deleted?.unwrap_or_default(),
    };
    if !deleted.is_null() {
        commands.change(&of("restore-secret"))?;
    }
    Ok(true)
}

/// The account's role for ECS, without which its first cluster may fail. Whoever may not make it
/// goes on: it may be there.
fn service_linked_role(commands: &Commands) -> Result<()> {
    let line = Line::aws(["iam", "create-service-linked-role"])
        .args(["--aws-service-name", "ecs.amazonaws.com"]);
    let Err(error) = commands.change(&line) else {
        return Ok(());
    };
    match error.downcast_ref() {
        Some(Error::Aws { message, .. }) if message.contains("has been taken") => Ok(()),
        Some(Error::NotPermitted { .. }) => {
            commands.say(&format!("  not made: {error}"));
            Ok(())
        }
        _ => Err(error),
    }
}

fn deploy(name: &str, deployment: &Deployment, commands: &Commands) -> Result<()> {
    let stack = Stack::new(commands, name);
    stack.prepare()?;
    let line = Line::cdk([
        "deploy",
        name,
        "--exclusively",
        "--require-approval",
        "never",
    ])
    .args(["--progress", "events"]);
    // What an attempt left that failed is adopted: the table is protected against a rollback too.
    let line = match name == deployment.base_stack() {
        true => line.args(["--import-existing-resources"]),
        false => line,
    };
    let line = match deployment.rollback {
        true => line,
        false => line.args(["--no-rollback"]),
    };
    stack.attempt(&line, &format!("deploying {name}"))
}

/// Waits until every registered target is healthy.
fn wait(deployment: &Deployment, commands: &mut Commands) -> Result<()> {
    let stack = deployment.replaceable_stacks();
    let stack = stack.first().map_or("", String::as_str);
    let list = Line::aws([
        "cloudformation",
        "describe-stack-resources",
        "--stack-name",
        stack,
    ])
    .args(["--query", TARGET_GROUPS]);
    let health = |group: &str| {
        Line::aws([
            "elbv2",
            "describe-target-health",
            "--target-group-arn",
            group,
        ])
        .args(["--query", "TargetHealthDescriptions[].TargetHealth.State"])
    };
    if commands.is_dry() {
        let (list, health) = (list.args(["--output", "text"]), health("$TARGET_GROUP"));
        commands.list(&format!("for TARGET_GROUP in $({list}); do {health}; done"));
        return Ok(());
    }
    let groups = json(commands, &list)?.unwrap_or_default();
    let groups = groups.as_array().cloned().unwrap_or_default();
    let began = Instant::now();
    for group in groups.iter().filter_map(Value::as_str) {
        while let Some(states) = json(commands, &health(group))? {
            let states = states.as_array().cloned().unwrap_or_default();
            // Draining ones belong to the previous release.
            let mut counted = states
                .iter()
                .filter(|state| *state != "draining")
                .peekable();
            if counted.peek().is_some() && counted.all(|state| state == "healthy") {
                break;
            }
            if began.elapsed().as_secs() > 60 * READY_MINUTES {
                return Err(Error::TimedOut {
                    what: "waiting for healthy pods".to_owned(),
                    minutes: READY_MINUTES,
                    next: format!(
                        "`aws logs tail /aws/containerinsights/{}/application` shows the pods' lines",
                        deployment.name("cluster")
                    ),
                }
                .into());
            }
            thread::sleep(commands.pause);
        }
    }
    Ok(())
}

/// The endpoint, and a line that calls it.
fn ending(deployment: &Deployment, commands: &Commands) -> Result<()> {
    let parameter = |variable, what| {
        let name = deployment.parameter(what);
        let line = Line::new(["aws", "ssm", "get-parameter", "--name", name.as_str()]).args([
            "--query",
            "Parameter.Value",
            "--output",
            "text",
        ]);
        commands.value(variable, &line)
    };
    commands.say("the endpoint, and the role that may call it");
    let endpoint = parameter("ENDPOINT", "rest_url")?;
    let role = parameter("ROLE", "rest_url_role_arn")?;
    if !commands.is_dry() {
        print!("{}", instructions(deployment, &endpoint, &role));
    }
    Ok(())
}

/// The text at the end. The credentials are the shell's variables, never text.
pub fn instructions(deployment: &Deployment, endpoint: &str, role: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    let Deployment { region, .. } = deployment;
    format!(
        "
endpoint     {endpoint}
region       {region}
role         {role}

A first key, as that role; its secret authorises every signature, so keep it:

  SECRET=$(openssl rand -hex 32); echo \"secret $SECRET\"
  (SESSION=$(aws sts assume-role --region {region} --role-arn {role} \\
      --role-session-name first-key --query \"{SESSION}\" --output text) && eval \"$SESSION\" &&
   curl --aws-sigv4 aws:amz:{region}:execute-api --user \"$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY\" \\
      -H \"x-amz-security-token: $AWS_SESSION_TOKEN\" -H 'content-type: application/json' \\
      -d '{{\"secret\":\"'$SECRET'\"}}' {endpoint}/generate_key)

`cargo aws check` examines the deployment, `cargo aws down` stops its costs.
"
    )
}

const TARGET_GROUPS: &str =
    "StackResources[?ResourceType=='AWS::ElasticLoadBalancingV2::TargetGroup'].PhysicalResourceId";
/// The secret with the pods' certificate, its key and their CA.
pub(crate) const POD_TLS: &str = "pod-tls";
const BOOTSTRAP: &str = "CDKToolkit";
const READY_MINUTES: u64 = 15;

/// Of an answer of `assume-role`: a line that sets a session's variables.
pub(crate) const SESSION: &str = "join(' ', ['export', \
    join('=', ['AWS_ACCESS_KEY_ID', Credentials.AccessKeyId]), \
    join('=', ['AWS_SECRET_ACCESS_KEY', Credentials.SecretAccessKey]), \
    join('=', ['AWS_SESSION_TOKEN', Credentials.SessionToken])])";
