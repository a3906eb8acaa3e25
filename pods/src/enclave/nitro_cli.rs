//! Runs enclaves on AWS Nitro with the `nitro-cli` program.
//!
//! Formats and behaviour are those of
//! [aws-nitro-enclaves-cli](https://github.com/aws/aws-nitro-enclaves-cli) 1.5.0.

mod diagnosis;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use cloister_contract::{ErrorChain, events};
use cloister_transport::Address;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::enclave::driver::{Console, DriverError, EnclaveDriver, Launch};

/// Runs an enclave with `nitro-cli`.
#[derive(Debug)]
pub struct NitroCli {
    program: PathBuf,
    name: String,
    cid: u32,
    enclave: Started,
    /// The task that watches the program that prints the console.
    console: Option<AbortOnDropHandle<()>>,
}

/// The result of the last start.
#[derive(Debug)]
enum Started {
    Nothing,
    /// The call was dropped, or its output was malformed: an enclave may run.
    Unknown,
    /// The enclave with this id.
    Enclave(String),
}

impl NitroCli {
    /// A driver for enclaves with this name and context id; `program` is `nitro-cli` or its path.
    pub fn new(program: PathBuf, name: String, cid: u32) -> Self {
        Self {
            program,
            name,
            cid,
            enclave: Started::Nothing,
            console: None,
        }
    }

    /// Runs the program until it exits.
    async fn call<A: AsRef<OsStr>>(
        &self,
        arguments: &[A],
        deadline: Duration,
    ) -> Result<Output, DriverError> {
        let mut child = self
            .command(arguments)
            .spawn()
            .map_err(|error| diagnosis::not_run(&self.program, &error))?;
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let run = async {
            // Output beyond the bounds meets a closed pipe instead of blocking the program.
            let (stdout, stderr) = tokio::join!(read(stdout), read(stderr));
            child.wait().await.map(|status| Output {
                status,
                stdout,
                stderr,
            })
        };
        match timeout(deadline, run).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => Err(diagnosis::not_run(&self.program, &error)),
            Err(_) => Err(diagnosis::hung(arguments[0].as_ref(), deadline)),
        }
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            // Without it nitro-cli prints the class of an error only.
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
            // nitro-cli fails but lists the enclaves that did answer.
            Ok(enclaves) if diagnosis::some_enclaves_did_not_answer(&output) => Ok(List {
                enclaves,
                complete: false,
            }),
            Ok(_) => Err(diagnosis::failed("list the enclaves", &output)),
            Err(malformed) if output.status.success() => Err(malformed),
            Err(_) => Err(diagnosis::failed("list the enclaves", &output)),
        }
    }

    async fn terminate_id(&self, id: &str) -> Result<(), DriverError> {
        let output = self
            .call(&["terminate-enclave", "--enclave-id", id], QUICK_DEADLINE)
            .await?;
        let ended = output.reply::<TerminateReply>("terminate the enclave");
        if matches!(&ended, Ok(reply) if reply.terminated && reply.id == id) {
            return Ok(());
        }
        // It may have ended on its own.
        let list = self.list().await?;
        if list.complete && list.find(id).is_none() {
            return Ok(());
        }
        ended?;
        Err(DriverError::failed(
            format!("{id} was not terminated"),
            diagnosis::SEE_LOG,
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
                    event = events::STALE_ENCLAVE,
                    id = stale.id,
                    name = stale.name,
                    cid = stale.cid,
                    "terminating an enclave that an earlier pod left running"
                );
                self.terminate_id(&stale.id).await?;
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
                    "nitro-cli started {} with CID {} instead of {} with CID {cid}",
                    reply.name, reply.cid, self.name
                ),
                "give each pod of this machine its own CLOISTER_ENCLAVE_NAME",
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
                return "no enclave was started".to_owned();
            };
            match self.list().await {
                Ok(list) if list.complete && list.find(id).is_none() => {
                    return format!("nitro-cli no longer lists {id}");
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(
                    error = %ErrorChain(&error),
                    "failed to look for the enclave"
                ),
            }
        }
    }

    async fn terminate(&mut self) -> Result<(), DriverError> {
        match &self.enclave {
            Started::Nothing => {}
            Started::Unknown => self.clean_up().await?,
            Started::Enclave(id) => self.terminate_id(id).await?,
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
            .map_err(|error| diagnosis::not_run(&self.program, &error))?;
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        self.console = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let stderr = read(stderr).await;
            if let Ok(status) = child.wait().await
                && !status.success()
            {
                let error = diagnosis::failed(
                    "show the console",
                    &Output {
                        status,
                        stdout: Vec::new(),
                        stderr,
                    },
                );
                tracing::warn!(error = %ErrorChain(&error), "the console is unavailable");
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
    /// The output of a successful call.
    fn reply<T: DeserializeOwned>(&self, action: &str) -> Result<T, DriverError> {
        if self.status.success() {
            self.json()
        } else {
            Err(diagnosis::failed(action, self))
        }
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T, DriverError> {
        serde_json::from_slice(&self.stdout)
            .map_err(|error| diagnosis::malformed(&error, &self.stdout))
    }
}

/// Reads at most [`MAX_OUTPUT_LEN`]; a read error counts as the end.
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
    /// True if every enclave answered.
    complete: bool,
}

impl List {
    fn find(&self, id: &str) -> Option<&Described> {
        self.enclaves.iter().find(|enclave| enclave.id == id)
    }
}

/// Timeout of `run-enclave`: nitro-cli itself waits up to 180 s for the heartbeat
/// (`calculate_necessary_timeout` in src/enclave_proc/resource_manager.rs).
const START_DEADLINE: Duration = Duration::from_secs(200);
/// Timeout of other commands: nitro-cli waits 3 s for each enclave that does not answer.
const QUICK_DEADLINE: Duration = Duration::from_secs(30);
/// Delay between two checks of a running enclave. The end of the log shows most ends at once; this
/// finds the others.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Longest standard output, and standard error, of the program, in bytes.
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
            said.contains("nitro-cli 1000 did not exit within 0 s"),
            "{said}"
        );
    }
}
