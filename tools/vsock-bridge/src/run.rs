//! Runs all forwards until a signal ends the process.

use std::io;

use cloister_bridge::{ListenAddress, Listener};
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Configuration;
use crate::{descriptors, metrics};

/// The reason for which the bridge does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("failed to start the runtime")]
    Runtime(#[source] io::Error),
    #[error("failed to listen for signals")]
    Signals(#[source] io::Error),
    #[error("forward `{name}`: failed to listen on {address}")]
    Listen {
        name: String,
        address: ListenAddress,
        source: io::Error,
    },
    #[error("failed to serve metrics on {address}")]
    Metrics {
        address: ListenAddress,
        source: io::Error,
    },
}

/// Forwards until SIGTERM or SIGINT, then until the open connections have ended or the time to
/// drain is over. A second signal ends that, too.
pub(crate) fn run(config: Configuration) -> Result<(), RunError> {
    descriptors::provide(&config.forwards);
    runtime(config.threads.get())
        .map_err(RunError::Runtime)?
        .block_on(forward(config))
}

fn runtime(threads: usize) -> io::Result<Runtime> {
    let mut builder = match threads {
        1 => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    // Of a multi-threaded runtime only: the thread of the other passes everything itself.
    builder.worker_threads(threads);
    // Looks for what has arrived after every turn of a connection: those that are never done would
    // keep the others waiting.
    builder.event_interval(1).enable_all().build()
}

async fn forward(config: Configuration) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let shutdown = CancellationToken::new();
    let mut running = JoinSet::new();
    let mut counters = Vec::new();
    let mut bound = Vec::new();
    for forward in config.forwards {
        let (name, address) = (forward.name, forward.listen);
        match forward.forward.bind().await {
            Ok(listening) => {
                counters.push((name.clone(), listening.counters().clone()));
                bound.push((name, forward.connect, listening));
            }
            Err(source) => {
                return Err(RunError::Listen {
                    name,
                    address,
                    source,
                });
            }
        }
    }
    let mut serving = JoinSet::new();
    if let Some(address) = config.metrics {
        match Listener::bind(address.clone()).await {
            Ok((listener, address)) => {
                tracing::info!(listen = %address, "serving metrics");
                serving.spawn(metrics::serve(listener, counters));
            }
            Err(source) => return Err(RunError::Metrics { address, source }),
        }
    }
    for (name, connect, listening) in bound {
        tracing::info!(forward = name, listen = %listening.address(), %connect, "forwarding");
        running.spawn(listening.run(shutdown.clone()));
    }
    tokio::select! {
        () = signals.stopping() => {}
        // Before a signal, a forward ends only by a panic.
        Some(Err(error)) = running.join_next() => std::panic::resume_unwind(error.into_panic()),
    }
    tracing::info!("stopping");
    shutdown.cancel();
    tokio::select! {
        _ = running.join_all() => tracing::info!("stopped"),
        () = signals.stopping() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn stopping(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
