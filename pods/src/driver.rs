//! How a pod starts, watches and ends its enclave, whatever machine the enclave runs on.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, io};

use cloister_transport::Address;
use tokio::io::{AsyncRead, ReadBuf};

/// Runs one enclave on this machine, for one pod.
pub trait EnclaveDriver: fmt::Debug + Send + 'static {
    /// Where `port` of the enclave is reached. The pod connects to it across restarts: it stays the
    /// same as long as the driver lives.
    fn address(&self, port: u32) -> Address;

    /// Ends what an earlier pod left behind under this enclave's name or address. Called before
    /// every start.
    fn clean_up(&mut self) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Starts the enclave; returns when it has booted. May be dropped: then
    /// [`EnclaveDriver::terminate`] or, in another pod, [`EnclaveDriver::clean_up`] ends what has
    /// come of it.
    fn start(&mut self, launch: &Launch) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Waits until the started enclave is gone, and says what is known of the reason. May be
    /// dropped and called again.
    fn ended(&mut self) -> impl Future<Output = String> + Send;

    /// Ends the started enclave. Not an error when there is none, or none any more.
    fn terminate(&mut self) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// The console of the started enclave, if it was started for debugging. Called at most once
    /// after each start.
    fn console(&mut self) -> impl Future<Output = Result<Option<Console>, DriverError>> + Send;
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The image: an EIF file.
    pub image: PathBuf,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// With a console. The registers of such an enclave are zeros: no key policy of a deployment
    /// admits it.
    pub debug: bool,
}

/// Why an enclave cannot be started, asked about or ended. Written for the operator of the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// Something that passes by itself, soon.
    #[error("{0}")]
    Busy(String),
    /// Something that may need a hand.
    #[error("{problem}: {remedy}")]
    Failed {
        /// What went wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
}

impl DriverError {
    /// Something that may need a hand.
    pub fn failed(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Failed {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// What an enclave prints on its console, until it ends.
pub struct Console(Pin<Box<dyn AsyncRead + Send>>);

impl Console {
    /// A console that is read from `lines`.
    pub fn new(lines: impl AsyncRead + Send + 'static) -> Self {
        Self(Box::pin(lines))
    }
}

impl AsyncRead for Console {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buf)
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}
