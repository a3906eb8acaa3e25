//! API Gateway and Lambda on loopback: verifies SigV4, makes the proxy event, runs the unmodified
//! function and answers as AWS does.
//!
//! ```text
//! caller ──HTTP, SigV4──► server ──event──► queue ◄──Runtime API── worker process 1…N
//! ```
//! Only the path between a caller and the function is imitated. IAM policies are not: every
//! principal of the callers' file may call everything.
//!
//! ministack, into which the rehearsal deploys the templates, does not replace it: it accepts
//! signatures of another service, starts a process per invocation (12 requests/s, here some 3 000),
//! and needs Python at the first start.

mod environment;
mod invocation;
mod proxy_event;
mod proxy_response;
mod refusal;
mod runtime_api;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cloister_stand_in::principals::Principals;
use cloister_stand_in::{StandInError, https};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use environment::Environment;
use server::Server;

/// Settings of the gateway.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on; port 0 for any.
    pub listen: SocketAddr,
    /// File of principals that may call.
    pub callers: PathBuf,
    /// The AWS region that signatures must be scoped to.
    pub region: String,
    /// The account of the function.
    pub account: String,
    /// The function.
    pub function: Function,
    /// Time limits.
    pub limits: Limits,
}

/// A Lambda function of the custom runtime `provided.al2023`.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name, as direct invokes use it.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its environment in addition to Lambda's variables. The gateway's own is not passed on.
    pub variables: Vec<(String, String)>,
    /// Number of its processes: the function's concurrency.
    pub workers: usize,
}

/// Time limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For API Gateway's integration, waiting for a free worker included.
    pub integration: Duration,
    /// For one event, before Lambda ends the function's process.
    pub function: Duration,
    /// For requests in flight when the gateway is stopped.
    pub shutdown: Duration,
}

impl Default for Limits {
    /// API Gateway's 29 s; for the function the same and a second more.
    fn default() -> Self {
        Self {
            integration: Duration::from_secs(29),
            function: Duration::from_secs(30),
            shutdown: Duration::from_secs(10),
        }
    }
}

/// A running gateway with its workers.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    requests: CancellationToken,
    workers: CancellationToken,
    tasks: TaskTracker,
    server: tokio::task::JoinHandle<()>,
    shutdown: Duration,
}

impl Gateway {
    /// Binds the listener and starts the workers.
    ///
    /// # Errors
    /// If the callers' file is invalid or the address cannot be bound.
    pub async fn start(options: Options) -> Result<Self, StandInError> {
        // Read again for every request; a mistake in it should show at the start.
        Principals::read(&options.callers)?;
        let failed = |source| StandInError::Listen {
            address: options.listen,
            source,
        };
        let listener = https::listen(options.listen)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (invoker, queue) = invocation::channel();
        let (requests, workers, tasks) = (
            CancellationToken::new(),
            CancellationToken::new(),
            TaskTracker::new(),
        );

        let function = Arc::new(options.function);
        for _ in 0..function.workers {
            let environment = Environment {
                function: function.clone(),
                arn: format!(
                    "arn:aws:lambda:{}:{}:function:{}",
                    options.region, options.account, function.name
                ),
                queue: queue.clone(),
                timeout: options.limits.function,
            };
            tasks.spawn(environment.run(workers.clone()));
        }
        tasks.close();

        let server = Server {
            callers: options.callers,
            region: options.region,
            function: function.name.clone(),
            invoker,
            integration: options.limits.integration,
        };
        let server = tokio::spawn(server.serve(listener, requests.clone()));
        Ok(Self {
            address,
            requests,
            workers,
            tasks,
            server,
            shutdown: options.limits.shutdown,
        })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, waits for those in flight within the limit, then ends the workers.
    pub async fn stop(mut self) {
        self.requests.cancel();
        if tokio::time::timeout(self.shutdown, &mut self.server)
            .await
            .is_err()
        {
            tracing::warn!("requests were still in flight when the gateway stopped");
            self.server.abort();
        }
        self.workers.cancel();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests;
