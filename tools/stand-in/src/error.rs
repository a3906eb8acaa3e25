//! Errors of a stand-in that cannot start or read its files.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A failure of the program, not of a call. Never quotes a file's contents.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StandInError {
    /// Other machines could reach it.
    #[error("{0} is not a loopback address")]
    NotLoopback(SocketAddr),
    /// Most likely, another program has the port.
    #[error("failed to listen on {address}")]
    Listen {
        /// Requested address.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The server stopped by itself.
    #[error("the server failed")]
    Serve(#[source] io::Error),
    /// An I/O error.
    #[error("failed to read or write {}", path.display())]
    File {
        /// File or directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A certificate or key is missing in a PEM file.
    #[error("{} is not valid PEM", path.display())]
    Pem {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// Certificate and key do not belong together, or cannot be used.
    #[error("rustls rejected the certificate or its key")]
    Tls(#[source] rustls::Error),
    /// JSON of another form.
    #[error("{} is malformed at line {line}, column {column}", path.display())]
    Json {
        /// File.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// A principal that AWS could not have.
    #[error("{}: principal {index} is invalid", path.display())]
    Principal {
        /// File.
        path: PathBuf,
        /// Counted from 0.
        index: usize,
        /// Cause.
        #[source]
        source: InvalidPrincipal,
    },
    /// SIGTERM or SIGINT cannot be watched.
    #[error("failed to watch for signals")]
    Signals(#[source] io::Error),
}

/// A fault of one entry of the file of principals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPrincipal {
    /// AWS makes secret access keys of 40 characters.
    #[error("the secret access key does not have 40 characters")]
    SecretLength,
    /// Only roles and users call.
    #[error("the ARN is not that of an IAM role or user")]
    Arn,
    /// Two principals share an access key id.
    #[error("duplicate access key id")]
    Duplicate,
}
