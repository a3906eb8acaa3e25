//! Pod errors.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An error that keeps a pod from running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodError {
    /// A file of the configuration is unreadable.
    #[error("failed to read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file of the configuration lacks the expected PEM items.
    #[error("{path} does not contain {expected} in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// The expected items.
        expected: &'static str,
    },
    /// Certificate and key do not match, or are of a kind that TLS does not support.
    #[error("the certificate is unusable")]
    Certificate(#[source] rustls::Error),
    /// The file of the front door's key is malformed. Its content is not repeated.
    #[error("{path} does not contain one or two lines of 64 hex digits in lower case")]
    FrontDoorKeyFile {
        /// The file.
        path: PathBuf,
    },
    /// The configuration does not name exactly one source of the front door's key.
    #[error(
        "no key of the front door is configured: set CLOISTER_FRONT_DOOR_KEY_FILE or \
         CLOISTER_FRONT_DOOR_SECRET"
    )]
    NoFrontDoorKey,
    /// The HTTPS client of the AWS SDK was not built.
    #[error("failed to set up HTTPS for AWS calls")]
    AwsClient(#[source] Box<dyn Error + Send + Sync>),
    /// The configuration has neither the address of an enclave nor an image to start.
    #[error("no enclave is configured: set CLOISTER_ENCLAVE or CLOISTER_ENCLAVE_IMAGE")]
    NoEnclave,
    /// The file of an external enclave's session does not hold a session value.
    #[error("{path} does not contain a session value: 64 hex digits")]
    Session {
        /// The file.
        path: PathBuf,
    },
    /// The operating system has no randomness for the session with an enclave.
    #[error("failed to draw a session value")]
    Randomness(#[source] getrandom::Error),
    /// The configured memory is too small for the enclave's image.
    #[error("the enclave cannot start with its configured memory")]
    Memory(#[source] Box<dyn Error + Send + Sync>),
    /// Failed to bind a port.
    #[error("failed to listen on {address}")]
    Listen {
        /// The port.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The file for the bound addresses is not writable.
    #[error("failed to write {path}")]
    AddressFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The operating system refused a signal handler.
    #[error("failed to wait for signals")]
    Signals(#[source] io::Error),
    /// A server stopped without being asked to.
    #[error("failed to serve")]
    Serve(#[source] io::Error),
}
