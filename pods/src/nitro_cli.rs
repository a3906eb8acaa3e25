//! Enclaves on AWS Nitro, through the `nitro-cli` program.
//!
//! Formats and behaviour are those of
//! [aws-nitro-enclaves-cli](https://github.com/aws/aws-nitro-enclaves-cli) 1.5.0.

mod complaint;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use cloister_transport::Address;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::driver::{Console, DriverError, EnclaveDriver, Launch};

/// Runs an enclave with `nitro-cli`.
#[derive(Debug)]
pub struct NitroCli {
    program: PathBuf,
    name: String,
    cid: u32,
    enclave: Started,
    /// Watches over the program that prints the console.
    console: Option<AbortOnDropHandle<()>>,
}

/// What came of the last start.
#[derive(Debug)]
enum Started {
    Nothing,
    /// It was not waited for, or what was said of it is not understood.
    Unknown,
    /// An enclave of this id.
    Enclave(String),
}

impl NitroCli {
    /// Of enclaves of this name and context id; `program` is `nitro-cli` or the path of it.
    pub fn new(program: PathBuf, name: String, cid: u32) -> Self {
        Self {
            program,
            name,
            cid,
            enclave: Started::Nothing,
            console: None,
        }
    }

    /// Runs the program to its end.
    async fn call<A: AsRef<OsStr>>(
        &self,
        arguments: &[A],
        deadline: Duration,
    ) -> Result<Output, DriverError> {
        let mut child = self
            .command(arguments)
            .spawn()
            .map_err(|error| complaint::not_run(&self.program, &error))?;
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let run = async {
            // What is beyond the bounds meets a closed pipe, instead of keeping the program from
            // ending.
            let (stdout, stderr) = tokio::join!(read(stdout), read(stderr));
            child.wait().await.map(|status| Output {
                status,
                stdout,
                stderr,
            })
        };
        match timeout(deadline, run).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => Err(complaint::not_run(&self.program, &error)),
            Err(_) => Err(complaint::hung(arguments[0].as_ref(), deadline)),
        }
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            // Without it nitro-cli tells the kind of an error, but not which one it was.
            .env("BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A signal from a terminal is for the pod, which ends its enclave after the last
            // request.
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    async fn list(&self) -> Result<List, DriverError> {
        let output = self.call(&["describe-enclaves"], QUICK_DEADLINE).await?;
        match output.json() {
            Ok(enclaves) if output.status.success() => Ok(List {
                enclaves,
                complete: true,
            }),
            // The enclaves that did not answer are left out, and that is an error, too.
            Ok(enclaves) if complaint::some_enclaves_did_not_answer(&output) => Ok(List {
                enclaves,
                complete: false,
            }),
            Ok(_) => Err(complaint::explained("list the enclaves", &output)),
            Err(not_understood) if output.status.success() => Err(not_understood),
            Err(_) => Err(complaint::explained("list the enclaves", &output)),
        }
    }

    async fn end(&self, id: &str) -> Result<(), DriverError> {
        let output = self
            .call(&["terminate-enclave", "--enclave-id", id], QUICK_DEADLINE)
            .await?;
        let ended = output.reply::<TerminateReply>("terminate the enclave");
        if matches!(&ended, Ok(reply) if reply.terminated && reply.id == id) {
            return Ok(());
        }
        // It may have ended by itself.
        let list = self.list().await?;
        if list.complete && list.find(id).is_none() {
            return Ok(());
        }
        ended?;
        Err(DriverError::failed(
            format!("{id} was not terminated"),
            complaint::SEE_LOG,
        ))
    }
}

impl EnclaveDriver for NitroCli {
    fn address(&self, port: u32) -> Address {
        Address::Vsock {
            cid: self.cid,
            port,
        }
    }

    async fn clean_up(&mut self) -> Result<(), DriverError> {
        let list = self.list().await?;
        for stale in list.enclaves {
            if stale.name.as_ref() == Some(&self.name) || stale.cid == u64::from(self.cid) {
                tracing::warn!(
                    id = stale.id,
                    name = stale.name,
                    cid = stale.cid,
                    "ending an enclave that was left behind"
                );
                self.end(&stale.id).await?;
            }
        }
        self.enclave = Started::Nothing;
        Ok(())
    }

    async fn start(&mut self, launch: &Launch) -> Result<(), DriverError> {
        let (cpus, memory, cid) = (
            launch.cpus.to_string(),
            launch.memory_mib.to_string(),
            self.cid.to_string(),
        );
        let mut arguments = vec![
            "run-enclave".as_ref(),
            "--eif-path".as_ref(),
            launch.image.as_os_str(),
        ];
        for (option, value) in [
            ("--cpu-count", &cpus),
            ("--memory", &memory),
            ("--enclave-cid", &cid),
            ("--enclave-name", &self.name),
        ] {
            arguments.extend([OsStr::new(option), value.as_ref()]);
        }
        if launch.debug {
            arguments.push("--debug-mode".as_ref());
        }
        self.enclave = Started::Unknown;
        let output = self.call(&arguments, START_DEADLINE).await?;
        if !output.status.success() {
            self.enclave = Started::Nothing;
        }
        let reply: RunReply = output.reply("start the enclave")?;
        self.enclave = Started::Enclave(reply.id.clone());
        if reply.name != self.name || reply.cid != u64::from(self.cid) {
            self.terminate().await?;
            return Err(DriverError::failed(
                format!(
                    "nitro-cli started {} with CID {}, but {} with {cid} was wanted",
                    reply.name, reply.cid, self.name
                ),
                "give each pod of this machine a CLOISTER_ENCLAVE_NAME of its own",
            ));
        }
        tracing::info!(
            id = reply.id,
            cid = reply.cid,
            "nitro-cli started the enclave"
        );
        Ok(())
    }

    async fn ended(&mut self) -> String {
        loop {
            sleep(POLL_INTERVAL).await;
            let Started::Enclave(id) = &self.enclave else {
                return "it was not started".to_owned();
            };
            match self.list().await {
                Ok(list) if list.complete && list.find(id).is_none() => {
                    return format!("nitro-cli does not list {id} any more");
                }
                Ok(_) => {}
                Err(problem) => tracing::warn!(%problem, "cannot ask how the enclave is"),
            }
        }
    }

    async fn terminate(&mut self) -> Result<(), DriverError> {
        match &self.enclave {
            Started::Nothing => {}
            Started::Unknown => self.clean_up().await?,
            Started::Enclave(id) => self.end(id).await?,
        }
        self.enclave = Started::Nothing;
        self.console = None;
        Ok(())
    }

    async fn console(&mut self) -> Result<Option<Console>, DriverError> {
        let Started::Enclave(id) = &self.enclave else {
            return Ok(None);
        };
        let mut child = self
            .command(&["console", "--enclave-id", id])
            .spawn()
            .map_err(|error| complaint::not_run(&self.program, &error))?;
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        self.console = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let stderr = read(stderr).await;
            if let Ok(status) = child.wait().await
                && !status.success()
            {
                let problem = complaint::explained(
                    "show the console",
                    &Output {
                        status,
                        stdout: Vec::new(),
                        stderr,
                    },
                );
                tracing::warn!(%problem, "no console");
            }
        })));
        Ok(Some(Console::new(stdout)))
    }
}

#[derive(Debug)]
struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    /// The answer of a call that went well.
    fn reply<T: DeserializeOwned>(&self, action: &str) -> Result<T, DriverError> {
        if self.status.success() {
            self.json()
        } else {
            Err(complaint::explained(action, self))
        }
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T, DriverError> {
        serde_json::from_slice(&self.stdout)
            .map_err(|error| complaint::not_understood(&error, &self.stdout))
    }
}

/// At most [`MAX_OUTPUT_LEN`] of it; an error ends it, too.
async fn read(stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.take(MAX_OUTPUT_LEN).read_to_end(&mut bytes).await;
    bytes
}

/// `EnclaveRunInfo` in src/common/json_output.rs.
#[derive(Debug, Deserialize)]
struct RunReply {
    #[serde(rename = "EnclaveName")]
    name: String,
    #[serde(rename = "EnclaveID")]
    id: String,
    #[serde(rename = "EnclaveCID")]
    cid: u64,
}

/// `EnclaveTerminateInfo` in src/common/json_output.rs.
#[derive(Debug, Deserialize)]
struct TerminateReply {
    #[serde(rename = "EnclaveID")]
    id: String,
    #[serde(rename = "Terminated")]
    terminated: bool,
}

/// `EnclaveDescribeInfo` in src/common/json_output.rs.
#[derive(Debug, Deserialize)]
struct Described {
    #[serde(rename = "EnclaveName")]
    name: Option<String>,
    #[serde(rename = "EnclaveID")]
    id: String,
    #[serde(rename = "EnclaveCID")]
    cid: u64,
}

/// The enclaves of this machine.
#[derive(Debug)]
struct List {
    enclaves: Vec<Described>,
    /// All of them answered.
    complete: bool,
}

impl List {
    fn find(&self, id: &str) -> Option<&Described> {
        self.enclaves.iter().find(|enclave| enclave.id == id)
    }
}

/// For starting an enclave: nitro-cli itself waits up to 180 s for its heartbeat
/// (`calculate_necessary_timeout` in src/enclave_proc/resource_manager.rs).
const START_DEADLINE: Duration = Duration::from_secs(200);
/// For everything else: nitro-cli waits 3 s for each enclave that does not answer.
const QUICK_DEADLINE: Duration = Duration::from_secs(30);
/// Pause between two looks at a running enclave. Its log tells its end at once; this finds one that
/// ended without a word.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Of each of the program's outputs, in bytes.
const MAX_OUTPUT_LEN: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_hangs_is_stopped() {
        let sleeping = NitroCli::new("sleep".into(), "cloister-signer".into(), 16);
        let said = sleeping
            .call(&["1000"], Duration::from_millis(20))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("nitro-cli 1000 did not end within 0 s"),
            "{said}"
        );
    }
}
