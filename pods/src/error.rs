//! Why a pod cannot run.

use std::error::Error as _;
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
    AwsClient(#[source] Box<dyn std::error::Error + Send + Sync>),
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
        let mut story = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            story.push_str(": ");
            story.push_str(&error.to_string());
            cause = error.source();
        }
        story
    }
}
