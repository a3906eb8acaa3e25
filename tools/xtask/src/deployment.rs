//! The CDK app: formatting, types, tests, and templates for every architecture, made without
//! credentials and without Docker.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use cloister_toolchain::cargo::{target_directory, workspace_root};
use cloister_toolchain::command::succeed;
use cloister_toolchain::node::Node;
use cloister_toolchain::python;
use fs_err as fs;

/// Formatting of all TypeScript and JavaScript.
pub(crate) fn check_format() -> Result<()> {
    script("format:check")
}

/// The app's own tests, and a synthesis of each kind that cfn-lint has to accept.
pub(crate) fn check() -> Result<()> {
    script("check")?;
    script("test")?;
    synthesize("dev-", "amd64", "eks")?;
    synthesize("dev-", "arm64", "ecs")
}

/// Every variant, for both architectures, with three prefixes.
pub(crate) fn check_all() -> Result<()> {
    for prefix in ["", "dev-", "prod-"] {
        for architecture in ["amd64", "arm64"] {
            for variant in ["eks", "ecs", "identities"] {
                synthesize(prefix, architecture, variant)?;
            }
        }
    }
    Ok(())
}

/// Runs one of the app's npm scripts.
fn script(name: &str) -> Result<()> {
    let node = Node::find()?;
    node.install(&directory())?;
    let mut npm = node.npm()?;
    succeed(npm.current_dir(directory()).args(["run", "--silent", name]))
}

fn synthesize(prefix: &str, architecture: &str, variant: &str) -> Result<()> {
    println!("synthesizing `{prefix}` for {architecture} on {variant}");
    let images = target_directory()
        .join("cdk")
        .join(format!("{prefix}{architecture}-{variant}"));
    let configured = |mut command: Command| {
        command
            .current_dir(directory())
            .env("CDK_PREFIX", prefix)
            .env("CDK_DEPLOY_ACCOUNT", "123456789012")
            .env("CDK_DEPLOY_REGION", "eu-central-1")
            .env("CDK_TARGET_ARCHITECTURE", format!("linux/{architecture}"))
            .env("CDK_VARIANT", variant)
            .env(
                "CDK_CLUSTER",
                if variant == "identities" {
                    "platform"
                } else {
                    ""
                },
            )
            .env("CDK_CALLERS", "arn:aws:iam::123456789012:role/backend")
            .env("CDK_ALARMS_TO", "operators@example.com")
            .env("CDK_IMAGES", &images)
            .env("CDK_FRONT_DOOR", images.join("front-door.zip"))
            .env("CDK_DISABLE_CLI_TELEMETRY", "true")
            // No credentials, Docker or metadata service of this machine.
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("CDK_DOCKER", "false");
        for name in [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_PROFILE",
        ] {
            command.env_remove(name);
        }
        command
    };
    let node = Node::find()?;
    let mut write_images = configured(node.node()?);
    write_images.args(["--import", "tsx", "test/write-images.ts"]);
    succeed(write_images.arg(&images))?;
    let output = images.join("cdk.out");
    let mut synth = configured(node.npm()?);
    synth.args(["run", "--silent", "synth", "--", "--output"]);
    succeed(synth.arg(&output))?;
    lint(&output)
}

/// Checks every template of a synthesis with cfn-lint.
fn lint(output: &Path) -> Result<()> {
    let requirements = fs::read_to_string(directory().join("test/cfn-lint.txt"))?;
    let mut lint = python::with_packages("cfn-lint", &requirements, &[])?;
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
    for file in fs::read_dir(output)? {
        let path = file?.path();
        if path.to_string_lossy().ends_with(".template.json") {
            lint.arg(path);
        }
    }
    succeed(&mut lint)
}

fn directory() -> PathBuf {
    workspace_root().join("cdk")
}
