//! `cargo aws` with the real CDK and the real stacks against ministack, as far as that goes: it has
//! no network for a cluster. It does not enforce policies here, because it refuses the CDK's own
//! bootstrapped roles.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

#[path = "../../../tests/e2e/tests/rehearsal/ministack.rs"]
mod ministack;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use clap::Parser as _;
use cloister_aws::commands::{Commands, Line};
use cloister_aws::deployment::Deployment;
use cloister_aws::error::Error;
use cloister_aws::{Arguments, Environment};
use cloister_toolchain::cargo::{target_directory, workspace_root};
use cloister_toolchain::command::succeed;
use cloister_toolchain::node::Node;

use crate::ministack::Ministack;

#[test]
fn down_takes_back_what_up_made_before_it_failed() {
    let mut rehearsal = Rehearsal::start();
    let failed = rehearsal.run(&["up"]).unwrap_err();
    let failed = failed.downcast_ref::<Error>();
    assert!(
        matches!(failed, Some(Error::Command { command, .. })
            if command.contains("cdk deploy test-cloister-cluster")),
        "{failed:?}"
    );
    let made = ["CDKToolkit", "test-cloister-base", "test-cloister-key"];
    assert_eq!(rehearsal.stacks(), made);

    let key = rehearsal.ask(&[
        "ssm",
        "get-parameter",
        "--name",
        "/test-app/ethereum/key_id",
    ])["Parameter"]["Value"]
        .as_str()
        .unwrap()
        .to_owned();
    // Without what was built, as on another machine.
    for variable in ["CDK_FRONT_DOOR", "CDK_IMAGES"] {
        let nowhere = "/nonexistent".to_owned();
        rehearsal.given.insert(variable.to_owned(), nowhere);
    }
    rehearsal.given.remove("CDK_POD_IMAGES");
    let down = ["down", "--with-keys", "--confirm", &key];
    rehearsal.run(&down).unwrap();
    assert_eq!(rehearsal.stacks(), ["CDKToolkit"]);
    let described = rehearsal.ask(&["kms", "describe-key", "--key-id", &key]);
    assert_eq!(described["KeyMetadata"]["KeyState"], "PendingDeletion");
    let tables = rehearsal.ask(&["dynamodb", "list-tables"]);
    assert_eq!(tables["TableNames"], serde_json::json!([]));
    // Nothing is left to do.
    rehearsal.run(&["down"]).unwrap();
}

/// The commands of the pages, in a clone without anything else, up to the first that needs
/// credentials. The test above goes on from there.
#[test]
fn the_pages_commands_work_in_a_fresh_clone() {
    let work = tempfile::tempdir().unwrap();
    let clone = work.path().join("cloister");
    let source = format!("file://{}", workspace_root().display());
    let mut git = Command::new("git");
    succeed(
        git.args(["clone", "--quiet", "--depth=1", &source])
            .arg(&clone),
    )
    .unwrap();

    let mut ups = BTreeSet::new();
    for page in ["README.md", "docs/deploying.md"] {
        let text = fs_err::read_to_string(clone.join(page)).unwrap();
        let commands: Vec<_> = text.lines().filter_map(cargo_aws).collect();
        assert!(commands.len() >= 2, "{page}: {commands:?}");
        for command in commands {
            let lines = dry_run(&command);
            if command.starts_with("up ") {
                ups.insert(lines);
            }
        }
    }
    assert_eq!(ups.len(), 1, "the pages name different accounts: {ups:?}");

    let lines = ups.pop_first().unwrap();
    let before = lines.split("\naws ").next().unwrap();
    let npm = Node::find().unwrap().npm().unwrap();
    let words: Vec<_> = std::iter::once(npm.get_program())
        .chain(npm.get_args())
        .map(|word| format!("'{}'", word.display()))
        .collect();
    let mut bash = Command::new("bash");
    bash.current_dir(&clone)
        .args(["-euo", "pipefail", "-c"])
        .arg(format!("npm() {{ {} \"$@\"; }}\n{before}", words.join(" ")));
    for (name, value) in npm.get_envs() {
        bash.env(name, value.unwrap_or_default());
    }
    succeed(&mut bash).unwrap();
    let settings = fs_err::read_to_string(clone.join("target/settings.json")).unwrap();
    let settings: serde_json::Value = serde_json::from_str(&settings).unwrap();
    let account = settings["account"].as_str().unwrap();
    assert!(lines.contains(account), "{settings}");
}

/// The arguments in a page's line that runs `cargo aws`.
fn cargo_aws(line: &str) -> Option<String> {
    let line = line.trim_start_matches("$ ").trim_start();
    let arguments = line.strip_prefix("cargo aws ")?;
    let arguments = arguments.split('#').next().unwrap_or(arguments);
    Some(arguments.trim_end().to_owned())
}

/// The commands that a run would execute.
fn dry_run(arguments: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cloister-aws"))
        .args(arguments.split_whitespace())
        .arg("--dry-run")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo aws {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

struct Rehearsal {
    aws: Ministack,
    /// `CDK_…`, as an operator would set them.
    given: Environment,
}

impl Rehearsal {
    fn start() -> Self {
        let images = target_directory().join("cdk/aws");
        let zip = images.join("front-door.zip");
        let digest = |digit: &str| format!("{REPOSITORY}@sha256:{}", digit.repeat(64));
        let pods = format!("signer={},key-generator={}", digest("1"), digest("2"));
        let given = [
            ("CDK_DEPLOY_ACCOUNT", ACCOUNT.to_owned()),
            ("CDK_DEPLOY_REGION", REGION.to_owned()),
            ("CDK_FRONT_DOOR", path(&zip)),
            ("CDK_IMAGES", path(&images)),
            ("CDK_POD_IMAGES", pods),
            ("CDK_PREFIX", "test-".to_owned()),
            ("CDK_TARGET_ARCHITECTURE", "linux/amd64".to_owned()),
            // The stand-in has no CloudTrail.
            (
                "CDK_TRAIL",
                format!("arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/all"),
            ),
        ];
        let given: Environment = given.map(|(name, value)| (name.to_owned(), value)).into();
        let node = Node::find().unwrap();
        let cdk = workspace_root().join("cdk");
        node.install(&cdk).unwrap();
        let mut write = node.node().unwrap();
        write
            .current_dir(cdk)
            .args(["--import", "tsx", "test/write-images.ts"])
            .arg(&images)
            .envs(&given);
        succeed(&mut write).unwrap();
        Self {
            aws: Ministack::start(false),
            given,
        }
    }

    fn run(&self, words: &[&str]) -> anyhow::Result<()> {
        let words = ["cargo aws"].iter().chain(words);
        let arguments = Arguments::try_parse_from(words).unwrap();
        let deployment = Deployment::new(arguments.target(), &self.given).unwrap();
        arguments.execute(&deployment, self.commands())
    }

    fn commands(&self) -> Commands {
        let mut variables: BTreeMap<_, _> = self.given.clone();
        let aws = [
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_DEFAULT_OUTPUT", "json".to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("AWS_ENDPOINT_URL", self.aws.endpoint()),
            ("AWS_ENDPOINT_URL_S3", self.aws.endpoint()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
        ];
        variables.extend(aws.map(|(name, value)| (name.to_owned(), value)));
        let mut commands = Commands::new(variables);
        commands.pause = Duration::from_millis(100);
        commands
    }

    fn ask(&self, words: &[&str]) -> serde_json::Value {
        let answer = self.commands().read(&Line::aws(words.iter().copied()));
        serde_json::from_str(&answer.unwrap().unwrap()).unwrap()
    }

    fn stacks(&self) -> Vec<String> {
        let stacks = self.ask(&["cloudformation", "describe-stacks"]);
        let stacks = stacks["Stacks"].as_array().unwrap().iter();
        let mut names: Vec<_> = stacks
            .map(|stack| stack["StackName"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }
}

fn path(path: &std::path::Path) -> String {
    path.to_str().unwrap().to_owned()
}

const ACCOUNT: &str = "000000000000";
const REGION: &str = "eu-central-1";
const REPOSITORY: &str = "000000000000.dkr.ecr.eu-central-1.amazonaws.com/test-cloister-pods";
