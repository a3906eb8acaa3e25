//! An HTTPS listener on loopback and its address file.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{StandInError, files};

/// Address and certificate of an HTTPS listener.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Loopback address to listen on; port 0 takes any.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// File to write `{"https":"ADDRESS:PORT"}` to, once listening.
    #[arg(long)]
    pub address_file: Option<PathBuf>,
    /// Server certificate chain, PEM.
    #[arg(long)]
    pub tls_cert: PathBuf,
    /// Its private key, PEM.
    #[arg(long)]
    pub tls_key: PathBuf,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Listens and serves. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// If the address cannot be bound or is not loopback, or a file cannot be read or written.
    pub fn start(options: &Options, router: Router) -> Result<Self, StandInError> {
        let tls = tls(&options.tls_cert, &options.tls_key)?;
        let listener = listen(options.listen)?;
        let failed = |source| StandInError::Listen {
            address: options.listen,
            source,
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let handle = Handle::new();
        let server = axum_server::from_tcp_rustls(listener, tls)
            .map_err(failed)?
            .handle(handle.clone())
            .serve(router.into_make_service());
        let task = tokio::spawn(server);
        if let Some(file) = &options.address_file {
            write_address(file, "https", address)?;
        }
        Ok(Self {
            address,
            handle,
            task,
        })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Finishes the requests in flight and stops.
    ///
    /// # Errors
    /// If the server failed before.
    pub async fn stop(self) -> Result<(), StandInError> {
        self.handle.graceful_shutdown(Some(GRACE));
        let ended = self.task.await.map_err(io::Error::other).flatten();
        ended.map_err(StandInError::Serve)
    }
}

/// Binds a loopback address.
///
/// # Errors
/// If it is not loopback or cannot be bound.
pub fn listen(address: SocketAddr) -> Result<TcpListener, StandInError> {
    if !address.ip().is_loopback() {
        return Err(StandInError::NotLoopback(address));
    }
    TcpListener::bind(address).map_err(|source| StandInError::Listen { address, source })
}

/// Writes the address file, whole or not at all.
///
/// # Errors
/// If it cannot be written.
pub fn write_address(file: &Path, scheme: &str, address: SocketAddr) -> Result<(), StandInError> {
    let text = json!({ scheme: address }).to_string();
    files::replace(file, text.as_bytes()).map_err(|source| StandInError::File {
        path: file.to_owned(),
        source,
    })
}

/// HTTP/1.1 only, like AWS's endpoints: HTTP/2 has no `host` header, which the signature covers.
fn tls(certificate: &Path, key: &Path) -> Result<RustlsConfig, StandInError> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| StandInError::Pem { path, source }
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(pem(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
    // Named, not taken from the process: another library may have set another default.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(StandInError::Tls)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(StandInError::Tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

/// Time for the requests in flight when the server is stopped.
const GRACE: Duration = Duration::from_secs(5);
