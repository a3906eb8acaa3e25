//! A deployment, from the first `cdk deploy` to the last `cdk destroy`, against a stand-in for AWS
//! on this machine.
//!
//! ministack carries out the templates, runs the function's zip and checks callers' signatures;
//! pods, enclaves, KMS and table are the laptop stack's, so that what is signed is signed by the
//! real thing.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::build::{target_directory, workspace_root};
use crate::image::Architecture;
use crate::run::{output, succeed_quietly};
use crate::stack::LocalStack;
use crate::{debian, lambda, npm, python};

/// Deploys, calls, updates, destroys, looks for what is left, and deploys again.
pub(crate) fn run() -> Result<(), String> {
    debian::require(&["curl"])?;
    let rehearsal = Rehearsal::start()?;
    rehearsal.cdk(&["bootstrap", &format!("aws://{ACCOUNT}/{REGION}")])?;
    let first = rehearsal.synthesize("first", "")?;
    rehearsal.deploy(&first, "test-cloister-key")?;
    let retained = rehearsal.inventory()?;
    require(
        retained.contains("test-cloister-keys"),
        "the table is not there",
    )?;

    println!("deploying the application");
    rehearsal.deploy(&first, "--all")?;
    let api = rehearsal.api()?;
    rehearsal.answers(&api, &[], "/version", "Missing Authentication Token")?;
    rehearsal.answers(&api, &ROOT, "/nothing", "unknown_route")?;
    rehearsal.answers(&api, &ROOT, "/set_key", "malformed_json")?;
    let key = rehearsal.generate(&api)?;
    rehearsal.sign(&api, &key)?;

    println!("updating it: a caller of its own");
    let caller = rehearsal.user()?;
    let second = rehearsal.synthesize("second", &format!("arn:aws:iam::{ACCOUNT}:user/backend"))?;
    rehearsal.deploy(&second, "--all")?;
    require(rehearsal.api()? == api, "an update moved the API")?;
    rehearsal.answers(
        &api,
        &[&caller[0], &caller[1]],
        "/version",
        "not authorized",
    )?;
    let role = format!("arn:aws:iam::{ACCOUNT}:role/test-cloister-invoke");
    let session = rehearsal.credentials(
        &caller,
        "sts",
        &[
            "AssumeRole",
            "RoleSessionName=rehearsal",
            &format!("RoleArn={role}"),
        ],
    )?;
    rehearsal.answers(
        &api,
        &session.iter().map(String::as_str).collect::<Vec<_>>(),
        "/version",
        "version",
    )?;
    rehearsal.sign(&api, &key)?;

    println!("destroying it");
    rehearsal.destroy(&second, "test-cloister-application")?;
    let left = rehearsal.inventory()?;
    require(
        left == retained,
        &format!(
            "destroying left {:?}, and took {:?}",
            &left - &retained,
            &retained - &left
        ),
    )?;
    require(
        rehearsal.destroy(&second, "--all").is_err(),
        "the key stack let itself be destroyed",
    )?;
    require(
        rehearsal.inventory()? == retained,
        "destroying everything took what is retained",
    )?;

    println!("deploying it again");
    rehearsal.deploy(&first, "--all")?;
    require(
        rehearsal.inventory()?.is_superset(&retained),
        "another table or key was made",
    )?;
    rehearsal.sign(&rehearsal.api()?, &key)
}

struct Rehearsal {
    stack: LocalStack,
    aws: Ministack,
    /// The small images to synthesize from, and the assemblies.
    work: PathBuf,
    front_door: PathBuf,
}

impl Rehearsal {
    fn start() -> Result<Self, String> {
        let front_door = lambda::package(Architecture::Amd64)?;
        npm::install(&cdk_directory())?;
        let work = target_directory().join("cdk/rehearsal");
        let rehearsal = Self {
            stack: LocalStack::start()?,
            aws: Ministack::start()?,
            work,
            front_door,
        };
        let mut images = npm::node();
        images
            .args(["--import", "tsx", "test/write-images.ts"])
            .arg(&rehearsal.work);
        rehearsal.quietly(&mut images)?;
        Ok(rehearsal)
    }

    fn synthesize(&self, name: &str, callers: &str) -> Result<PathBuf, String> {
        let output = self.work.join(name);
        let mut synthesize = npm::npm();
        let app = "node --import tsx bin/rehearsal.ts";
        synthesize
            .args(["run", "--silent", "synth", "--", "--app", app, "--output"])
            .arg(&output);
        self.quietly(synthesize.env("CDK_CALLERS", callers))?;
        Ok(output)
    }

    fn deploy(&self, app: &Path, what: &str) -> Result<(), String> {
        self.cdk(&[
            "deploy",
            what,
            "--require-approval",
            "never",
            "--app",
            &app.display().to_string(),
        ])
    }

    fn destroy(&self, app: &Path, what: &str) -> Result<(), String> {
        self.cdk(&[
            "destroy",
            what,
            "--force",
            "--app",
            &app.display().to_string(),
        ])
    }

    fn cdk(&self, arguments: &[&str]) -> Result<(), String> {
        let mut cdk = npm::node();
        cdk.arg("node_modules/aws-cdk-local/bin/cdklocal")
            .args(arguments)
            .arg("--no-notices");
        self.quietly(&mut cdk)
    }

    /// Runs in the app's directory, with the stand-in as AWS.
    fn quietly(&self, command: &mut Command) -> Result<(), String> {
        let endpoint = self.aws.endpoint();
        self.stack.with(command).current_dir(cdk_directory()).envs([
            ("CDK_PREFIX", "test-"),
            ("CDK_DEPLOY_ACCOUNT", ACCOUNT),
            ("CDK_DEPLOY_REGION", REGION),
            ("CDK_TARGET_ARCHITECTURE", "linux/amd64"),
            ("CDK_DISABLE_CLI_TELEMETRY", "true"),
            ("AWS_ACCESS_KEY_ID", ROOT[0]),
            ("AWS_SECRET_ACCESS_KEY", ROOT[1]),
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ENVAR_ALLOWLIST", "AWS_REGION,AWS_DEFAULT_REGION"),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_ENDPOINT_URL_S3", &endpoint),
        ]);
        command
            .env("CDK_IMAGES", &self.work)
            .env("CDK_FRONT_DOOR", &self.front_door)
            .env_remove("AWS_SESSION_TOKEN");
        succeed_quietly(command, &self.work.with_extension("log"))
    }

    /// The names of what there is: whatever is ours of each kind, and every key.
    fn inventory(&self) -> Result<BTreeSet<String>, String> {
        let mut found = BTreeSet::new();
        for (service, question) in LISTS {
            let endpoint = self.aws.endpoint();
            let said = match *question {
                Question::Path(path) => {
                    self.curl(&ROOT, service, &format!("{endpoint}{path}"), &[])?
                }
                Question::Target(target) => {
                    let target = format!("X-Amz-Target: {target}");
                    let json = "Content-Type: application/x-amz-json-1.1";
                    self.curl(
                        &ROOT,
                        service,
                        &endpoint,
                        &["-H", &target, "-H", json, "-d", "{}"],
                    )?
                }
                Question::Action(action) => self.curl(
                    &ROOT,
                    service,
                    &endpoint,
                    &["-d", &format!("Action={action}")],
                )?,
            };
            let words = said.split(|character: char| {
                !(character.is_ascii_alphanumeric() || "-_/".contains(character))
            });
            found.extend(
                words
                    .filter(|word| is_ours(service, word))
                    .map(str::to_owned),
            );
        }
        Ok(found)
    }

    /// The URL of the one API.
    fn api(&self) -> Result<String, String> {
        let endpoint = self.aws.endpoint();
        let said = self.curl(&ROOT, "apigateway", &format!("{endpoint}/restapis"), &[])?;
        let id = between(&said, "\"id\": \"", "\"").or_else(|| between(&said, "\"id\":\"", "\""));
        Ok(format!(
            "{endpoint}/restapis/{}/prod/_user_request_",
            id.ok_or("there is no API")?
        ))
    }

    /// POSTs nothing, or GETs the version, as whoever has these credentials; the answer has to have
    /// `expected` in it.
    fn answers(
        &self,
        api: &str,
        credentials: &[&str],
        path: &str,
        expected: &str,
    ) -> Result<(), String> {
        let method = if path == "/version" { "GET" } else { "POST" };
        let said = self.curl(
            credentials,
            "execute-api",
            &format!("{api}{path}"),
            &["-X", method],
        )?;
        require(
            said.contains(expected),
            &format!("{method} {path} was answered with {said}, and not with {expected}"),
        )
    }

    fn generate(&self, api: &str) -> Result<String, String> {
        let said = self.cloister(api, &["key", "generate"])?;
        Ok(between(&said, "\"key_id\": \"", "\"")
            .ok_or(format!("no key: {said}"))?
            .to_owned())
    }

    /// Has a hash signed; `cloister` verifies the signature.
    fn sign(&self, api: &str, key: &str) -> Result<(), String> {
        self.cloister(
            api,
            &["sign", "user-op-hash", "--key-id", key, &"5a".repeat(32)],
        )
        .map(drop)
    }

    fn cloister(&self, api: &str, arguments: &[&str]) -> Result<String, String> {
        let mut cloister = Command::new(target_directory().join("debug").join("cloister"));
        cloister
            .args(["--json", "--region", REGION])
            .args(arguments)
            .args(["--endpoint", api]);
        cloister
            .env("CLOISTER_SECRET", "a secret of this rehearsal")
            .env_remove("AWS_SESSION_TOKEN");
        output(
            cloister
                .env("AWS_ACCESS_KEY_ID", ROOT[0])
                .env("AWS_SECRET_ACCESS_KEY", ROOT[1]),
        )
    }

    /// A user who may do nothing but assume the role that invokes the API, if that lets itself be
    /// assumed.
    fn user(&self) -> Result<Vec<String>, String> {
        let root = ROOT.map(str::to_owned);
        let endpoint = self.aws.endpoint();
        self.curl(
            &ROOT,
            "iam",
            &endpoint,
            &["-d", "Action=CreateUser&UserName=backend"],
        )?;
        let policy = format!("PolicyDocument={ASSUME_ROLE}");
        let put = "Action=PutUserPolicy&UserName=backend&PolicyName=assume";
        self.curl(
            &ROOT,
            "iam",
            &endpoint,
            &["-d", put, "--data-urlencode", &policy],
        )?;
        self.credentials(&root, "iam", &["CreateAccessKey", "UserName=backend"])
    }

    /// Asks for credentials.
    fn credentials(
        &self,
        caller: &[String],
        service: &str,
        question: &[&str],
    ) -> Result<Vec<String>, String> {
        let caller: Vec<&str> = caller.iter().map(String::as_str).collect();
        let body = format!("Version=2011-06-15&Action={}", question.join("&"));
        let said = self.curl(&caller, service, &self.aws.endpoint(), &["-d", &body])?;
        let member = |name: &str| between(&said, &format!("<{name}>"), "<").map(str::to_owned);
        let credentials: Vec<_> = ["AccessKeyId", "SecretAccessKey", "SessionToken"]
            .into_iter()
            .filter_map(member)
            .collect();
        require(credentials.len() >= 2, &format!("no credentials: {said}"))?;
        Ok(credentials)
    }

    /// What a URL answers to whoever has these credentials: access key, its secret, session token.
    fn curl(
        &self,
        credentials: &[&str],
        service: &str,
        url: &str,
        arguments: &[&str],
    ) -> Result<String, String> {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "30",
        ]);
        if let [access_key, secret, token @ ..] = credentials {
            curl.args([
                "--aws-sigv4",
                &format!("aws:amz:{REGION}:{service}"),
                "--user",
                &format!("{access_key}:{secret}"),
            ]);
            for token in token {
                curl.args(["-H", &format!("X-Amz-Security-Token: {token}")]);
            }
        }
        output(curl.args(arguments).arg(url))
    }
}

/// The stand-in; it ends when this is dropped.
struct Ministack {
    process: Child,
    port: u16,
}

impl Ministack {
    fn start() -> Result<Self, String> {
        let packages = python::kept("ministack", &cdk_directory().join("test/ministack.txt"))?;
        let port = free_port()?;
        // Its files go here, and the next start finds none of them.
        let directory = target_directory().join("ministack");
        let emptied = if directory.exists() {
            fs::remove_dir_all(&directory)
        } else {
            Ok(())
        };
        emptied
            .and_then(|()| fs::create_dir_all(&directory))
            .map_err(|error| format!("cannot use {}: {error}", directory.display()))?;
        let mut python = Command::new("python3");
        python
            .args(["-c", "from ministack.app import main; main()"])
            .stdin(Stdio::null());
        python.stdout(Stdio::null()).stderr(Stdio::null());
        python
            .env("PYTHONPATH", packages)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        // On loopback alone, with signatures and policies enforced, and functions as processes.
        python.envs([
            ("BIND_HOST", "127.0.0.1"),
            ("IOT_MTLS_ENABLED", "0"),
            ("AUTH", "true"),
            ("LAMBDA_EXECUTOR", "local"),
        ]);
        python
            .env("TMPDIR", &directory)
            .env("STATE_DIR", &directory);
        let process = python.env("GATEWAY_PORT", port.to_string()).spawn();
        let mut ministack = Self {
            process: process.map_err(|error| format!("python3 does not start: {error}"))?,
            port,
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = ministack
                .process
                .try_wait()
                .map_err(|error| format!("cannot wait for ministack: {error}"))?;
            require(
                ended.is_none() && Instant::now() < deadline,
                "ministack does not start",
            )?;
            sleep(Duration::from_millis(50));
        }
        Ok(ministack)
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How a service is asked for what it has.
enum Question {
    Path(&'static str),
    Target(&'static str),
    Action(&'static str),
}

const LISTS: &[(&str, Question)] = &[
    ("lambda", Question::Path("/2015-03-31/functions")),
    ("apigateway", Question::Path("/restapis")),
    ("s3", Question::Path("/")),
    ("logs", Question::Target("Logs_20140328.DescribeLogGroups")),
    ("ssm", Question::Target("AmazonSSM.DescribeParameters")),
    ("dynamodb", Question::Target("DynamoDB_20120810.ListTables")),
    ("kms", Question::Target("TrentService.ListKeys")),
    ("events", Question::Target("AWSEvents.ListRules")),
    ("iam", Question::Action("ListRoles")),
    ("sns", Question::Action("ListTopics")),
    ("monitoring", Question::Action("DescribeAlarms")),
    ("monitoring", Question::Action("ListDashboards")),
];

fn is_ours(service: &str, word: &str) -> bool {
    let named = word.contains("test-cloister-") || word.starts_with("/test-app/");
    named || (service == "kms" && word.len() == 36)
}

fn free_port() -> Result<u16, String> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener
        .map(|address| address.port())
        .map_err(|error| format!("there is no free port: {error}"))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

fn require(held: bool, problem: &str) -> Result<(), String> {
    if held {
        Ok(())
    } else {
        Err(problem.to_owned())
    }
}

fn cdk_directory() -> PathBuf {
    workspace_root().join("cdk")
}

/// The stand-in wants this of a caller's own account, too, where AWS is content with the role's
/// trust.
const ASSUME_ROLE: &str = r#"{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::000000000000:role/test-cloister-invoke"}
]}"#;

/// The stand-in's own, which may do everything.
const ROOT: [&str; 2] = ["test", "test"];
const ACCOUNT: &str = "000000000000";
const REGION: &str = "eu-central-1";
const PATIENCE: Duration = Duration::from_secs(30);
