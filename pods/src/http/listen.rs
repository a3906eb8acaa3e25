//! Ports and servers.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use cloister_protocol::limits::{BODY_DEADLINE, IDLE_DEADLINE};
use hyper_util::rt::TokioTimer;

use crate::error::PodError;
use crate::http::connections::Connections;

/// A bound TCP port.
#[derive(Debug)]
pub(crate) struct Port {
    listener: TcpListener,
    address: SocketAddr,
}

impl Port {
    /// Binds `address`.
    ///
    /// # Errors
    /// [`PodError::Listen`].
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, PodError> {
        let bind = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(Self {
                address: listener.local_addr()?,
                listener,
            })
        };
        bind().map_err(|source| PodError::Listen { address, source })
    }
}

/// Writes the bound addresses to a file, atomically.
///
/// # Errors
/// [`PodError::AddressFile`].
pub(crate) fn write_addresses(path: &Path, https: &Port, health: &Port) -> Result<(), PodError> {
    let addresses = serde_json::json!({ "https": https.address, "health": health.address });
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, addresses.to_string())
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|source| PodError::AddressFile {
            path: path.to_owned(),
            source,
        })
}

/// Serves HTTPS. Each connection has its own task, so that a slow handshake delays no other.
///
/// # Errors
/// [`PodError::Listen`] at once; the future fails if the server stops.
pub(crate) fn serve_https(
    port: Port,
    tls: RustlsConfig,
    routes: Router,
    connections: Connections,
    handle: Handle<SocketAddr>,
) -> Result<impl Future<Output = io::Result<()>>, PodError> {
    let acceptor = RustlsAcceptor::new(tls)
        .handshake_timeout(BODY_DEADLINE)
        .acceptor(connections);
    let mut server = axum_server::from_tcp(port.listener)
        .map_err(|source| PodError::Listen {
            address: port.address,
            source,
        })?
        .acceptor(acceptor)
        .handle(handle)
        .http1_only();
    // Also limits the time between two requests of a connection.
    server
        .http_builder()
        .http1()
        .max_buf_size(MAX_HEAD_LEN)
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_DEADLINE);
    Ok(server.serve(routes.into_make_service_with_connect_info::<SocketAddr>()))
}

/// Serves HTTP.
///
/// # Errors
/// [`PodError::Listen`] at once; the future fails if the server stops.
pub(crate) fn serve_plain(
    port: Port,
    routes: Router,
    handle: Handle<SocketAddr>,
) -> Result<impl Future<Output = io::Result<()>>, PodError> {
    let mut server = axum_server::from_tcp(port.listener)
        .map_err(|source| PodError::Listen {
            address: port.address,
            source,
        })?
        .acceptor(Connections::new(MAX_PLAIN_CONNECTIONS))
        .handle(handle)
        .http1_only();
    server
        .http_builder()
        .http1()
        .max_buf_size(MAX_HEAD_LEN)
        .timer(TokioTimer::new())
        .header_read_timeout(BODY_DEADLINE);
    Ok(server.serve(routes.into_make_service()))
}

/// Bytes of a connection's read buffer, which bounds a request's head.
const MAX_HEAD_LEN: usize = 32 * 1024;
/// Open connections to the plain port, which probes and operators use.
const MAX_PLAIN_CONNECTIONS: u32 = 128;
