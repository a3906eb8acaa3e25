//! A deployment, from the first `cdk deploy` to the last `cdk destroy`, against a stand-in for AWS
//! on this machine.
//!
//! ministack carries out the templates, runs the function's zip and checks callers' signatures.
//! Pods, enclaves, KMS and table are the local stack's, so the signatures are real ones.
//! `cargo xtask test --step rehearsal` builds what this needs and runs it.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

mod aws;
mod ministack;

use std::path::{Path, PathBuf};
use std::process::Command;

use cloister_client::{Client, Credentials, Response};
use cloister_e2e::Local;
use cloister_local::endpoint;
use cloister_protocol::{CallerSecret, KeyId};
use cloister_toolchain::cargo::{target_directory, workspace_root};
use cloister_toolchain::command::succeed_quietly;
use cloister_toolchain::node::Node;

use crate::aws::{ACCOUNT, Aws, REGION, ROOT};

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_comes_changes_and_goes_without_its_keys() {
    let rehearsal = Rehearsal::start().await;
    rehearsal.cdk(&["bootstrap", &format!("aws://{ACCOUNT}/{REGION}")]);
    let first = rehearsal.synthesize("first", "");
    rehearsal.deploy(&first, "test-cloister-key");
    let retained = rehearsal.aws.inventory().await;
    assert!(retained.contains("test-cloister-keys"), "{retained:?}");

    // The application.
    rehearsal.deploy(&first, "--all");
    let api = rehearsal.aws.api().await;
    let caller = api_client(&api, Credentials::new(ROOT, ROOT, None));
    let unsigned = caller.request(http::Method::GET, "/version", "").unwrap();
    let unsigned = caller.send(unsigned).await.unwrap();
    assert_refused(&unsigned, "Missing Authentication Token");
    let unknown = caller.post("/nothing", "").await.unwrap();
    assert_eq!(unknown.refusal().unwrap().code, "unknown_route");
    let malformed = caller.post("/set_key", "").await.unwrap();
    assert_eq!(malformed.refusal().unwrap().code, "malformed_json");
    let key = caller.generate_key(&secret()).await.unwrap().key_id;
    sign(&caller, key).await;

    // An update: another user may call.
    let user = rehearsal.aws.create_user().await;
    let second = rehearsal.synthesize("second", &format!("arn:aws:iam::{ACCOUNT}:user/backend"));
    rehearsal.deploy(&second, "--all");
    assert_eq!(rehearsal.aws.api().await, api, "an update moved the API");
    let refused = api_client(&api, user.clone())
        .get("/version")
        .await
        .unwrap();
    assert_refused(&refused, "not authorized");
    let session = rehearsal.aws.assume_invoke_role(user).await;
    let version = api_client(&api, session).get("/version").await.unwrap();
    assert_eq!(version.status, 200, "{}", version.text());
    sign(&caller, key).await;

    rehearsal
        .destroy(&second, "test-cloister-application")
        .unwrap();
    assert_eq!(rehearsal.aws.inventory().await, retained);
    let all = rehearsal.destroy(&second, "--all");
    assert!(all.is_err(), "the key stack must not be destroyed");
    assert_eq!(rehearsal.aws.inventory().await, retained);

    // The same table and key are adopted.
    rehearsal.deploy(&first, "--all");
    let found = rehearsal.aws.inventory().await;
    assert!(
        found.is_superset(&retained),
        "{found:?} and not {retained:?}"
    );
    let api = rehearsal.aws.api().await;
    sign(&api_client(&api, Credentials::new(ROOT, ROOT, None)), key).await;
}

/// Signs a hash; the client checks the signature's form, the enclave its signer.
async fn sign(caller: &Client, key: KeyId) {
    let hash = [0x5a; 32].into();
    caller.sign_user_op(key, &secret(), hash).await.unwrap();
}

fn assert_refused(response: &Response, message: &str) {
    assert_eq!(response.status, 403);
    assert!(response.text().contains(message), "{}", response.text());
}

fn api_client(api: &str, credentials: Credentials) -> Client {
    Client::new(api, REGION, credentials, None).unwrap()
}

fn secret() -> CallerSecret {
    CallerSecret::new("a secret of this rehearsal".to_owned().into()).unwrap()
}

struct Rehearsal {
    local: Local,
    aws: Aws,
    node: Node,
    /// The small images to synthesize from, and the assemblies.
    work: PathBuf,
}

impl Rehearsal {
    async fn start() -> Self {
        let rehearsal = Self {
            local: Local::start().await,
            aws: Aws::start(),
            node: Node::find().unwrap(),
            work: target_directory().join("cdk/rehearsal"),
        };
        std::fs::create_dir_all(&rehearsal.work).unwrap();
        let mut images = rehearsal.node.node().unwrap();
        images
            .args(["--import", "tsx", "test/write-images.ts"])
            .arg(&rehearsal.work);
        rehearsal.run(&mut images).unwrap();
        rehearsal
    }

    fn synthesize(&self, name: &str, callers: &str) -> PathBuf {
        let output = self.work.join(name);
        let app = "node --import tsx bin/rehearsal.ts";
        let mut npm = self.node.npm().unwrap();
        npm.args(["run", "--silent", "synth", "--", "--app", app, "--output"])
            .arg(&output)
            .env("CDK_CALLERS", callers);
        self.run(&mut npm).unwrap();
        output
    }

    fn deploy(&self, app: &Path, stacks: &str) {
        let app = app.to_str().unwrap();
        self.cdk(&[
            "deploy",
            stacks,
            "--require-approval",
            "never",
            "--app",
            app,
        ]);
    }

    fn destroy(&self, app: &Path, stacks: &str) -> anyhow::Result<()> {
        let app = app.to_str().unwrap();
        self.try_cdk(&["destroy", stacks, "--force", "--app", app])
    }

    fn cdk(&self, arguments: &[&str]) {
        self.try_cdk(arguments).unwrap();
    }

    fn try_cdk(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut cdk = self.node.node()?;
        cdk.arg("node_modules/aws-cdk-local/bin/cdklocal")
            .args(arguments)
            .arg("--no-notices");
        self.run(&mut cdk)
    }

    /// Runs in the app's directory, with the stand-in as AWS.
    fn run(&self, command: &mut Command) -> anyhow::Result<()> {
        let variables = endpoint::variables(&self.local.stack);
        command
            .current_dir(workspace_root().join("cdk"))
            .envs(variables.lines().filter_map(|line| line.split_once('=')))
            .env("CDK_PREFIX", "test-")
            .env("CDK_DEPLOY_ACCOUNT", ACCOUNT)
            .env("CDK_DEPLOY_REGION", REGION)
            .env("CDK_TARGET_ARCHITECTURE", "linux/amd64")
            // The stand-in has no CloudTrail.
            .env(
                "CDK_TRAIL",
                format!("arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/of-the-account"),
            )
            .env("CDK_DISABLE_CLI_TELEMETRY", "true")
            .env("CDK_IMAGES", &self.work)
            .env(
                "CDK_FRONT_DOOR",
                target_directory().join("lambda/front-door-amd64.zip"),
            )
            .env("AWS_ACCESS_KEY_ID", ROOT)
            .env("AWS_SECRET_ACCESS_KEY", ROOT)
            .env("AWS_REGION", REGION)
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_ENVAR_ALLOWLIST", "AWS_REGION,AWS_DEFAULT_REGION")
            .env("AWS_ENDPOINT_URL", self.aws.endpoint())
            .env("AWS_ENDPOINT_URL_S3", self.aws.endpoint())
            .env_remove("AWS_SESSION_TOKEN");
        succeed_quietly(command, &self.work.with_extension("log"))
    }
}
