//! The interface between a pod and the machine that runs its enclave.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, io};

use cloister_transport::Address;
use tokio::io::{AsyncRead, ReadBuf};

/// Runs one enclave on this machine, for one pod.
pub trait EnclaveDriver: fmt::Debug + Send + 'static {
    /// The address of the enclave's `port`. The pod connects to it across restarts: it never changes
    /// during the driver's lifetime.
    fn address(&self, port: u32) -> Address;

    /// Terminates enclaves that an earlier pod left running under this name or address. Called
    /// before every start.
    fn clean_up(&mut self) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Starts the enclave; returns when it has booted. Cancel safe: after a drop,
    /// [`EnclaveDriver::terminate`] or, in another pod, [`EnclaveDriver::clean_up`] terminates
    /// whatever was started.
    fn start(&mut self, launch: &Launch) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Waits until the started enclave is gone; returns the reason as far as the driver knows it.
    /// Cancel safe.
    fn ended(&mut self) -> impl Future<Output = String> + Send;

    /// Terminates the started enclave. Not an error if none was started, or it is already gone.
    fn terminate(&mut self) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// The console of the started enclave, if it was started for debugging. Called at most once
    /// after each start.
    fn console(&mut self) -> impl Future<Output = Result<Option<Console>, DriverError>> + Send;
}

/// The enclave to start.
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

/// An error of a driver. The texts are for the operator of the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// A condition that passes without intervention, soon.
    #[error("{0}")]
    Busy(String),
    /// A condition that may need intervention.
    #[error("{problem}: {remedy}")]
    Failed {
        /// The failure.
        problem: String,
        /// The operator's next step.
        remedy: String,
    },
}

impl DriverError {
    /// A [`DriverError::Failed`].
    pub fn failed(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Failed {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// The output of an enclave's console, until the enclave ends.
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
