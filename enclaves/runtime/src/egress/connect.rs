//! Opens TLS connections over egress streams.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cloister_contract::{ErrorChain, events};
use cloister_transport::{EgressPool, Stream};
use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::CertificateError;
use rustls_pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

/// Opens TLS connections to `https` hosts; other schemes are refused.
#[derive(Clone)]
pub(super) struct Connect {
    pool: EgressPool,
    tls: TlsConnector,
    /// For dialling and the handshake together.
    limit: Option<Duration>,
}

impl Connect {
    pub(super) fn new(pool: EgressPool, tls: TlsConnector, limit: Option<Duration>) -> Self {
        Self { pool, tls, limit }
    }

    async fn connect(self, uri: Uri) -> io::Result<Secured> {
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the scheme is not https",
            ));
        }
        let host = uri
            .host()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the URL has no host"))?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let handshake = async {
            let stream = self
                .pool
                .connect(host, uri.port_u16().unwrap_or(HTTPS_PORT))
                .await?;
            // The SDK reports only that there was no connection.
            let secured = self.tls.connect(name, stream).await;
            secured.inspect_err(|error| log_failure(host, error))
        };
        let stream = match self.limit {
            None => handshake.await?,
            Some(limit) => timeout(limit, handshake).await.map_err(|_| {
                io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the deadline for connecting passed",
                )
            })??,
        };
        Ok(Secured(TokioIo::new(stream)))
    }
}

/// An unknown issuer has an event of its own: it may be an attempt to read the connection.
fn log_failure(host: &str, error: &io::Error) {
    let issuer_is_unknown = matches!(
        error.get_ref().and_then(|inner| inner.downcast_ref()),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer
        ))
    );
    let event = if issuer_is_unknown {
        events::AWS_TLS_UNKNOWN_ISSUER
    } else {
        events::AWS_TLS_FAILED
    };
    tracing::warn!(event, host, error = %ErrorChain(error), "TLS with an AWS service failed");
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").finish_non_exhaustive()
    }
}

impl Service<Uri> for Connect {
    type Response = Secured;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Secured>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A TLS connection, adapted to hyper.
#[derive(Debug)]
pub(super) struct Secured(TokioIo<TlsStream<Stream>>);

impl Connection for Secured {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

const HTTPS_PORT: u16 = 443;
