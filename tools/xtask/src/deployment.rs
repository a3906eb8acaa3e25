//! The CDK app: types, tests, and templates for every architecture, made without credentials and
//! without Docker.

use std::path::Path;
use std::process::Command;

use crate::build::{target_directory, workspace_root};
use crate::run::succeed;
use crate::{npm, python};

/// The app's own tests, and a synthesis of each kind that cfn-lint has to accept.
pub(crate) fn check() -> Result<(), String> {
    let cdk = workspace_root().join("cdk");
    npm::install(&cdk)?;
    succeed(
        npm::npm()
            .current_dir(&cdk)
            .args(["run", "--silent", "check"]),
    )?;
    succeed(
        npm::npm()
            .current_dir(&cdk)
            .args(["run", "--silent", "test"]),
    )?;
    synthesize("dev-", "amd64", "eks")?;
    synthesize("dev-", "arm64", "ecs")
}

/// Every variant, for both architectures, with three prefixes.
pub(crate) fn check_all() -> Result<(), String> {
    for prefix in ["", "dev-", "prod-"] {
        for architecture in ["amd64", "arm64"] {
            for variant in ["eks", "ecs"] {
                synthesize(prefix, architecture, variant)?;
            }
        }
    }
    Ok(())
}

fn synthesize(prefix: &str, architecture: &str, variant: &str) -> Result<(), String> {
    println!("synthesizing `{prefix}` for {architecture} on {variant}");
    let images = target_directory()
        .join("cdk")
        .join(format!("{prefix}{architecture}-{variant}"));
    let configured = |mut command: Command| {
        command.current_dir(workspace_root().join("cdk"));
        for (name, value) in [
            ("CDK_PREFIX", prefix),
            ("CDK_DEPLOY_ACCOUNT", "123456789012"),
            ("CDK_DEPLOY_REGION", "eu-central-1"),
            ("CDK_TARGET_ARCHITECTURE", &format!("linux/{architecture}")),
            ("CDK_VARIANT", variant),
            ("CDK_CALLERS", "arn:aws:iam::123456789012:role/backend"),
            // Nothing of the machine's own: no credentials, no Docker, no metadata service.
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("CDK_DOCKER", "false"),
            ("CDK_DISABLE_CLI_TELEMETRY", "true"),
        ] {
            command.env(name, value);
        }
        for name in [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_PROFILE",
        ] {
            command.env_remove(name);
        }
        command
            .env("CDK_IMAGES", &images)
            .env("CDK_FRONT_DOOR", images.join("front-door.zip"));
        command
    };
    succeed(
        configured(npm::node())
            .args(["--import", "tsx", "test/write-images.ts"])
            .arg(&images),
    )?;
    let output = images.join("cdk.out");
    succeed(
        configured(npm::npm())
            .args(["run", "--silent", "synth", "--", "--output"])
            .arg(&output),
    )?;
    lint(&output)
}

/// Has cfn-lint look at every template of a synthesis.
fn lint(output: &Path) -> Result<(), String> {
    let packages = python::kept("cfn-lint", &workspace_root().join("cdk/test/cfn-lint.txt"))?;
    let files = std::fs::read_dir(output)
        .map_err(|error| format!("cannot read {}: {error}", output.display()))?;
    let templates = files.filter_map(|file| Some(file.ok()?.path()));
    let templates = templates.filter(|path| path.to_string_lossy().ends_with(".template.json"));
    let mut lint = Command::new("python3");
    lint.env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    // W3005: CDK writes dependencies that a reference implies already.
    lint.args([
        "-c",
        "from cfnlint.runner import main; main()",
        "--ignore-checks",
        "W3005",
        "--regions",
        "eu-central-1",
        "--template",
    ]);
    succeed(lint.args(templates))
}
