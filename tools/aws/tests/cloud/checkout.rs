//! A checkout in which `cargo`, `npm` and `npx` do nothing but leave what the real ones leave.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clap::Parser as _;
use cloister_aws::Arguments;
use cloister_aws::commands::Commands;
use cloister_aws::deployment::Deployment;
use cloister_aws::error::Error;
use tempfile::TempDir;

use crate::aws::{ACCOUNT, Aws, REGION};

pub(crate) struct Checkout {
    directory: TempDir,
    variables: BTreeMap<String, String>,
}

impl Checkout {
    pub(crate) fn new(aws: &Aws) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for name in DIRECTORIES {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in [
            "Cargo.lock",
            "Cargo.toml",
            "rust-toolchain.toml",
            "enclaves/a.rs",
            "tools/image/Cargo.lock",
            "tools/image/Cargo.toml",
        ] {
            fs::write(root.join(name), name).unwrap();
        }
        for (name, script) in PROGRAMS {
            let file = root.join("bin").join(name);
            fs::write(&file, script).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let log = root.join("log").display().to_string();
        let variables = [
            ("LOG", log.as_str()),
            ("AWS_ENDPOINT_URL", &aws.endpoint()),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            directory,
            variables: variables.into(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn set(&mut self, variable: &str, value: &str) {
        self.variables.insert(variable.to_owned(), value.to_owned());
    }

    /// Runs `cargo aws`, which succeeds.
    pub(crate) fn succeeds(&self, arguments: &[&str]) {
        let failure = self.run(arguments);
        assert!(failure.is_none(), "{failure:?}");
    }

    /// Runs `cargo aws`, and returns its failure.
    pub(crate) fn fails(&self, arguments: &[&str]) -> Error {
        self.run(arguments).expect("a failure")
    }

    fn run(&self, arguments: &[&str]) -> Option<Error> {
        let target = ["--account", ACCOUNT, "--region", REGION];
        let words = ["cargo aws"].iter().chain(arguments).chain(&target);
        let arguments = Arguments::try_parse_from(words).unwrap();
        let deployment = Deployment::new(arguments.target(), &self.variables).unwrap();
        let mut variables = deployment.variables();
        variables.extend(self.variables.clone());
        let programs = PROGRAMS
            .iter()
            .map(|(name, _)| (*name, self.path("bin").join(name)));
        let mut commands = Commands::new(variables).within(self.path(""), programs.collect());
        commands.pause = Duration::from_millis(10);
        let error = arguments.execute(&deployment, commands).err()?;
        Some(error.downcast().expect("its cause is known"))
    }

    /// Runs a script as it would be pasted, and returns what it prints.
    pub(crate) fn paste(&self, script: &str) -> String {
        let mut shell = Command::new("bash");
        shell.args(["-c", script]).envs(&self.variables);
        let output = shell.env("NO_PROXY", "*").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The programs' lines so far that contain `part`.
    pub(crate) fn ran(&self, part: &str) -> Vec<String> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines = log.lines().filter(|line| line.contains(part));
        lines.map(str::to_owned).collect()
    }
}

const DIRECTORIES: &[&str] = &[
    "bin",
    "cdk/containers",
    "cdk/policies",
    "crates",
    "enclaves",
    "lambdas",
    "pods",
    "tools/image/src",
    "tools/release/src",
    "tools/toolchain/src",
];

const PROGRAMS: &[(&str, &str)] = &[
    (
        "npm",
        r#"#!/bin/sh
echo "npm $*" >> "$LOG"
case "$*" in
*settings) echo '{"table_arn": "arn:this"}';;
*pod-tls) echo '{"ca": "a"}';;
esac
"#,
    ),
    (
        "npx",
        r#"#!/bin/sh
echo "$* # $CDK_POD_IMAGES" >> "$LOG"
exit "$(curl --silent --noproxy '*' --header "x-cdk: $2 $3 $*" "$AWS_ENDPOINT_URL/")"
"#,
    ),
    (
        "cargo",
        r#"#!/bin/sh
set -e
echo "$*" >> "$LOG"
case "$2" in
image) mkdir -p target/images/deployment
  echo '{"images": {"signer": {"pcr0": "aa"}, "key-generator": {"pcr0": "bb"}}}' \
    > target/images/deployment/measurements.json;;
containers) mkdir -p target/containers/oci; echo "$*" > target/containers/oci/index.json;;
lambda) mkdir -p target/lambda; echo "$*" > target/lambda/front-door-amd64.zip;;
push) echo "copied"; echo "CDK_POD_IMAGES=signer=$6@sha256:1,key-generator=$6@sha256:2";;
esac
"#,
    ),
];
