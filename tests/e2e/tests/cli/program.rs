//! The program, started once for each command.

use std::process::{Output, Stdio};
use std::sync::Mutex;

use cloister_e2e::Local;
use cloister_local::child::binary;
use cloister_local::identity::Identity;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

/// A user's shell: environment variables, and all that was ever printed into it.
pub(crate) struct Shell {
    variables: Vec<(String, String)>,
    printed: Mutex<Vec<u8>>,
}

/// The outcome of a command.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Shell {
    /// A shell with the caller's credentials.
    pub(crate) fn of_a_caller(local: &Local) -> Self {
        let mut shell = Self::of(&local.stack.identities().caller, local);
        shell.set("CLOISTER_ENDPOINT", &local.stack.endpoint());
        shell
    }

    pub(crate) fn of(identity: &Identity, local: &Local) -> Self {
        let mut shell = Self {
            variables: Vec::new(),
            printed: Mutex::default(),
        };
        identity
            .variables()
            .into_iter()
            .for_each(|(name, value)| shell.set(name, value));
        shell.set("AWS_REGION", local.stack.region());
        // No variables of the user who runs the tests, and no metadata service.
        shell.set("AWS_EC2_METADATA_DISABLED", "true");
        shell.set("AWS_CONFIG_FILE", "/nowhere");
        shell.set("AWS_SHARED_CREDENTIALS_FILE", "/nowhere");
        shell
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.variables.retain(|(known, _)| known != name);
    }

    /// The same shell with one variable set otherwise.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut other = Self {
            variables: self.variables.clone(),
            printed: Mutex::default(),
        };
        other.set(name, value);
        other
    }

    pub(crate) async fn run(&self, line: &[&str]) -> Ended {
        self.run_with(line, "").await
    }

    pub(crate) async fn run_with(&self, line: &[&str], input: &str) -> Ended {
        let mut child = self.start(line);
        let mut stdin = child.stdin.take().unwrap();
        // A command that fails early reads nothing.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        self.end(child).await
    }

    pub(crate) fn start(&self, line: &[&str]) -> Child {
        Command::new(binary("cloister").unwrap())
            .args(line)
            .env_clear()
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("`cargo build --workspace --bins` makes the program")
    }

    pub(crate) async fn end(&self, child: Child) -> Ended {
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().await.unwrap();
        let mut printed = self.printed.lock().unwrap();
        printed.extend_from_slice(&stdout);
        printed.extend_from_slice(&stderr);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended {
            code: status.code().unwrap(),
            out: text(stdout),
            err: text(stderr),
        }
    }

    /// True if any command has printed it.
    pub(crate) fn has_printed(&self, what: &str) -> bool {
        String::from_utf8_lossy(&self.printed.lock().unwrap()).contains(what)
    }
}

impl Ended {
    /// The answer of a command that was run with `--json`.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The failure of a command that was run with `--json`.
    pub(crate) fn failure(&self) -> Value {
        serde_json::from_str(&self.err).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
