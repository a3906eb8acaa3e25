//! The server side of TLS: version 1.3 only, no client certificates.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use cloister_contract::{ErrorChain, events};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::version::TLS13;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::sleep;

use crate::error::PodError;

/// Reads certificate chain and key.
///
/// # Errors
/// [`PodError`] with the invalid file.
pub(crate) fn server_config(certificate: &Path, key: &Path) -> Result<ServerConfig, PodError> {
    let chain = certificates(certificate)?;
    let key_der = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| PodError::Pem {
        path: key.to_owned(),
        expected: "a private key",
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, key_der)
        })
        .map_err(PodError::Certificate)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves the new certificate whenever the files are replaced. An unusable certificate changes
/// nothing.
pub(crate) async fn follow(certificate: &Path, key: &Path, served: RustlsConfig) {
    let content = || (std::fs::read(certificate).ok(), std::fs::read(key).ok());
    let mut seen = content();
    loop {
        sleep(POLL_INTERVAL).await;
        let found = content();
        if found == seen {
            continue;
        }
        seen = found;
        match server_config(certificate, key) {
            Ok(config) => {
                served.reload_from_config(Arc::new(config));
                tracing::info!(
                    event = events::CERTIFICATE_RENEWED,
                    certificate = %certificate.display(),
                    "serving the renewed certificate"
                );
            }
            Err(error) => {
                tracing::warn!(
                    event = events::CERTIFICATE_UNUSABLE,
                    error = %ErrorChain(&error),
                    "the new certificate is unusable; still serving the previous one"
                );
            }
        }
    }
}

/// The certificates of a PEM file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PodError> {
    match CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(PodError::Pem {
            path: path.to_owned(),
            expected: "certificates",
        }),
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, PodError> {
    std::fs::read(path).map_err(|source| PodError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Delay between two reads of the files.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
