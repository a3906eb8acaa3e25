//! Execution environments: one process of the function with its own Runtime API, restarted whenever
//! it ends.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cloister_contract::ErrorChain;
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Function;
use super::invocation::{FunctionError, Queue};
use super::runtime_api::RuntimeApi;

/// One execution environment.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) function: Arc<Function>,
    pub(crate) arn: String,
    pub(crate) queue: Queue,
    pub(crate) timeout: Duration,
}

impl Environment {
    /// Keeps a process of the function running until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let started = Instant::now();
            match self.live(&stop).await {
                Ok(End::Stopped) => return,
                Ok(End::Exited(status)) => tracing::warn!(%status, "the function's process ended"),
                Ok(End::TimedOut) => tracing::warn!("the function timed out"),
                Err(error) => {
                    let program = self.function.program.display();
                    tracing::error!(error = %ErrorChain(&error), %program, "failed to start the function");
                }
            }
            // Doubled for short lives, so that a function that cannot start does not keep the
            // machine busy.
            pause = if started.elapsed() > LONG_LIFE {
                SHORTEST_PAUSE
            } else {
                (pause * 2).min(LONGEST_PAUSE)
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Runs one process to its end.
    async fn live(&self, stop: &CancellationToken) -> io::Result<End> {
        let api = RuntimeApi::bind(self.queue.clone(), self.arn.clone(), self.timeout).await?;
        let mut process = self.command(&api.address().to_string()).spawn()?;
        let end = tokio::select! {
            status = process.wait() => End::Exited(status?),
            () = api.overdue() => End::TimedOut,
            () = stop.cancelled() => End::Stopped,
            never = api.serve() => match never {},
        };
        match end {
            End::Exited(_) => api.fail(FunctionError::Exited),
            End::TimedOut => {
                process.kill().await?;
                api.fail(FunctionError::TimedOut(self.timeout));
            }
            End::Stopped => {
                // `serve` has been dropped, so the process has lost its Runtime API and ends by
                // itself.
                if tokio::time::timeout(FAREWELL, process.wait())
                    .await
                    .is_err()
                {
                    process.kill().await?;
                }
                api.fail(FunctionError::Exited);
            }
        }
        Ok(end)
    }

    /// The process as Lambda starts it:
    /// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime>.
    fn command(&self, runtime_api: &str) -> Command {
        let function = &self.function;
        let region = self.arn.split(':').nth(3).unwrap_or_default();
        let mut command = Command::new(&function.program);
        command
            .env_clear()
            .envs([
                ("AWS_LAMBDA_RUNTIME_API", runtime_api),
                ("AWS_LAMBDA_FUNCTION_NAME", &function.name),
                ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
                (
                    "AWS_LAMBDA_LOG_GROUP_NAME",
                    &format!("/aws/lambda/{}", function.name),
                ),
                ("AWS_LAMBDA_LOG_STREAM_NAME", "local"),
                ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
                ("AWS_REGION", region),
                ("AWS_DEFAULT_REGION", region),
                ("LANG", "en_US.UTF-8"),
                ("TZ", ":UTC"),
                ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
            ])
            .envs(function.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// The end of a process.
enum End {
    Exited(ExitStatus),
    TimedOut,
    Stopped,
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LONG_LIFE: Duration = Duration::from_secs(10);
/// Time for a process to notice that its Runtime API is gone.
const FAREWELL: Duration = Duration::from_secs(2);
