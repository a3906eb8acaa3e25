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
use std::time::{Duration, SystemTime};

use cloister_client::{Client, Credentials, Response};
use cloister_e2e::Local;
use cloister_local::endpoint;
use cloister_protocol::{CallerSecret, KeyId};
use cloister_toolchain::cargo::{target_directory, workspace_root};
use cloister_toolchain::command::succeed_quietly;
use cloister_toolchain::node::Node;

use crate::aws::{ACCOUNT, Aws, REGION, ROOT};

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_comes_changes_goes_back_and_goes() {
    let rehearsal = Rehearsal::start().await;
    rehearsal.cdk(&[
        "bootstrap",
        &format!("aws://{ACCOUNT}/{REGION}"),
        "--app",
        "",
    ]);
    let first = rehearsal.synthesize("first", &[]);
    rehearsal.deploy(&first, "test-cloister-key");
    let retained = rehearsal.aws.inventory().await;
    assert!(retained.contains("test-cloister-keys"), "{retained:?}");
    rehearsal.deploy(&first, "--all");
    let caller = rehearsal.caller().await;
    refuses_what_is_not_for_it(&caller).await;
    let key = caller.generate_key(&secret()).await.unwrap().key_id;
    sign(&caller, key).await;

    another_user_may_call(&rehearsal, &caller).await;
    a_next_release_comes_and_goes_back(&rehearsal, &caller, key).await;

    // Without base and key nothing is left, and these are protected.
    rehearsal.destroy("test-cloister-application", &[]).unwrap();
    assert_eq!(rehearsal.aws.inventory().await, retained);
    let all = rehearsal.destroy("--all", &[]);
    assert!(all.is_err(), "the key stack must not be destroyed");
    assert_eq!(rehearsal.aws.inventory().await, retained);

    // The same table and key are adopted.
    rehearsal.deploy(&first, "--all");
    let found = rehearsal.aws.inventory().await;
    assert!(
        found.is_superset(&retained),
        "{found:?} and not {retained:?}"
    );
    sign(&rehearsal.caller().await, key).await;

    let cmk = rehearsal.aws.parameter("key_id").await;
    rehearsal.destroy_with_keys(&cmk).await;
    // The locked journal and the region's role for logs of API Gateway, which name their stack.
    let left = rehearsal.aws.inventory().await;
    let kept = ["journal", "ApiLogs", "test-cloister-base"];
    assert!(
        left.iter()
            .all(|name| kept.iter().any(|kind| name.contains(kind))),
        "{left:?}"
    );
    assert_eq!(rehearsal.aws.key_state(&cmk).await, "PendingDeletion");

    // The name is free again.
    rehearsal.deploy(&first, "--all");
    assert_ne!(rehearsal.aws.parameter("key_id").await, cmk);
    let caller = rehearsal.caller().await;
    let key = caller.generate_key(&secret()).await.unwrap().key_id;
    sign(&caller, key).await;
}

async fn refuses_what_is_not_for_it(caller: &Client) {
    let unsigned = caller.request(http::Method::GET, "/version", "").unwrap();
    let unsigned = caller.send(unsigned).await.unwrap();
    assert_refused(&unsigned, "Missing Authentication Token");
    let unknown = caller.post("/nothing", "").await.unwrap();
    assert_eq!(unknown.refusal().unwrap().code, "unknown_route");
    let malformed = caller.post("/set_key", "").await.unwrap();
    assert_eq!(malformed.refusal().unwrap().code, "malformed_json");
}

/// An update: a user gets the right to call.
async fn another_user_may_call(rehearsal: &Rehearsal, caller: &Client) {
    let before = rehearsal.aws.api().await;
    let user = rehearsal.aws.create_user().await;
    let callers = format!("arn:aws:iam::{ACCOUNT}:user/backend");
    let second = rehearsal.synthesize("second", &[("CDK_CALLERS", &callers)]);
    rehearsal.deploy(&second, "--all");
    let api = rehearsal.aws.api().await;
    assert_eq!(api, before, "an update moved the API");
    let refused = api_client(&api, user.clone())
        .get("/version")
        .await
        .unwrap();
    assert_refused(&refused, "not authorized");
    let session = rehearsal.aws.assume_invoke_role(user).await;
    let version = api_client(&api, session).get("/version").await.unwrap();
    assert_eq!(version.status, 200, "{}", version.text());
    let version = caller.get("/version").await.unwrap();
    assert_eq!(version.status, 200, "{}", version.text());
}

/// The steps of docs/operate.md. After each one the key admits the release that has the traffic.
async fn a_next_release_comes_and_goes_back(rehearsal: &Rehearsal, caller: &Client, key: KeyId) {
    let [present, next] = ["one", "two"].map(|version| rehearsal.images(version));
    let [is, will_be] = [&present, &next].map(|images| pcr0(images));
    let until = soon();
    let both = [
        ("CDK_NEXT_IMAGES", next.to_str().unwrap()),
        ("CDK_NEXT_UNTIL", &until),
    ];
    let back = [both[0], both[1], ("CDK_TRAFFIC", "present")];
    let steps: [(&str, &[(&str, &str)], [bool; 2]); 3] = [
        ("next", &both, [true, true]),
        ("back", &back, [true, true]),
        ("present", &[], [true, false]),
    ];
    for (name, variables, admitted) in steps {
        let app = rehearsal.synthesize(name, variables);
        rehearsal.deploy(&app, "--all");
        let policy = rehearsal.aws.key_policy().await;
        assert_eq!(
            [&is, &will_be].map(|pcr0| policy.contains(pcr0)),
            admitted,
            "{name}: {policy}"
        );
        sign(caller, key).await;
    }
}

/// PCR0 of the signer.
fn pcr0(images: &Path) -> String {
    let measurements = std::fs::read_to_string(images.join("measurements.json")).unwrap();
    let measurements: serde_json::Value = serde_json::from_str(&measurements).unwrap();
    let pcr0 = &measurements["images"]["signer"]["pcr0"];
    pcr0.as_str().unwrap().to_owned()
}

/// A day within the time for which two releases may be admitted.
fn soon() -> String {
    let day = Duration::from_secs(86_400);
    let then = humantime::format_rfc3339(SystemTime::now() + 7 * day).to_string();
    then[..10].to_owned()
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
        for version in ["one", "two"] {
            let images = rehearsal.images(version);
            std::fs::create_dir_all(&images).unwrap();
            let mut write = rehearsal.node.node().unwrap();
            write
                .args(["--import", "tsx", "test/write-images.ts"])
                .arg(images)
                .arg(version);
            rehearsal.run(&mut write).unwrap();
        }
        rehearsal
    }

    /// The images of a release.
    fn images(&self, version: &str) -> PathBuf {
        self.work.join("images").join(version)
    }

    /// A caller with every permission.
    async fn caller(&self) -> Client {
        let root = Credentials::new(ROOT, ROOT, None);
        api_client(&self.aws.api().await, root)
    }

    fn synthesize(&self, name: &str, variables: &[(&str, &str)]) -> PathBuf {
        let output = self.work.join(name);
        let mut npm = self.node.npm().unwrap();
        npm.args(["run", "--silent", "synth", "--", "--app", APP, "--output"])
            .arg(&output)
            .envs(variables.iter().copied());
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

    /// Needs no images.
    fn destroy(&self, stacks: &str, context: &[&str]) -> anyhow::Result<()> {
        let mut arguments = vec!["destroy", stacks, "--force", "--app", APP];
        arguments.extend(["-c", "destroy=true"]);
        arguments.extend(context);
        self.try_cdk(&arguments)
    }

    /// The steps of `cargo aws down --with-keys`.
    async fn destroy_with_keys(&self, cmk: &str) {
        let with_keys = ["-c", "with-keys=true", "--exclusively"];
        self.destroy("test-cloister-application", &[]).unwrap();
        self.aws.schedule_key_deletion(cmk).await;
        self.aws.unprotect("test-cloister-key").await;
        self.destroy("test-cloister-key", &with_keys).unwrap();
        let mut deploy = vec!["deploy", "test-cloister-base", "--app", APP];
        deploy.extend(["--require-approval", "never", "-c", "destroy=true"]);
        deploy.extend(with_keys);
        self.cdk(&deploy);
        self.aws.unprotect("test-cloister-base").await;
        self.destroy("test-cloister-base", &with_keys).unwrap();
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
            .env("CDK_IMAGES", self.images("one"))
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

const APP: &str = "node --import tsx bin/rehearsal.ts";
