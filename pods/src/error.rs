//! Why a pod cannot run.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a pod cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodError {
    /// A file of the configuration cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the configuration does not hold the PEM items it should.
    #[error("{path} does not hold {expected} in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// Certificate and key do not go together, or are of a kind that TLS does not know.
    #[error("the certificate cannot be served")]
    Certificate(#[source] rustls::Error),
    /// The HTTPS client of the AWS SDK cannot be built.
    #[error("cannot set up HTTPS for AWS calls")]
    AwsClient(#[source] Box<dyn Error + Send + Sync>),
    /// It is said neither where an enclave is nor which image to start.
    #[error(
        "no enclave: CLOISTER_ENCLAVE says where one is, CLOISTER_ENCLAVE_IMAGE which one to start"
    )]
    NoEnclave,
    /// The enclave could never be started.
    #[error("{0}")]
    Memory(String),
    /// A port is not to be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The port.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The bound addresses cannot be written.
    #[error("cannot write {path}")]
    AddressFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system does not deliver signals.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// A server stopped by itself.
    #[error("serving failed")]
    Serve(#[source] io::Error),
}

impl PodError {
    /// The whole story, for the log.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
