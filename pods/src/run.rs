//! A pod from its first port to its last answer.

use std::future::ready;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use axum::Router;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use cloister_bridge::{Egress, Limits};
use cloister_protocol::Rejection;
use cloister_protocol::limits::{BODY_DEADLINE, IDLE_DEADLINE, REQUEST_DEADLINE};
use cloister_protocol::message::HealthReport;
use cloister_transport::{Address, Client};
use hyper_util::rt::TokioTimer;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::driver::EnclaveDriver;
use crate::enclave_health::EnclaveHealth;
use crate::image::{ImageError, check_memory};
use crate::lifecycle::Lifecycle;
use crate::presence::Presence;
use crate::relay::unknown_route;
use crate::supervisor::{Problem, Supervisor};
use crate::tls::{follow, server_config};
use crate::{Config, PodError, Relay};

/// In what the two pods differ.
pub trait Service: Send + Sync + 'static {
    /// As the enclave calls itself.
    const NAME: &'static str;

    /// What is served over HTTPS.
    fn routes(self: Arc<Self>, relay: Arc<Relay>) -> Router;

    /// Brings an enclave that has adopted its CMK to readiness.
    fn complete(
        &self,
        enclave: &Client,
    ) -> impl Future<Output = Result<HealthReport, Rejection>> + Send;
}

/// Serves until `shutdown`, then until every request in flight is answered. An enclave of the pod's
/// own is kept with `nitro-cli`.
///
/// # Errors
/// [`PodError`] when it cannot begin, or a server stops by itself.
pub async fn run<S: Service>(
    config: Config,
    service: S,
    credentials: SharedCredentialsProvider,
    shutdown: CancellationToken,
) -> Result<(), PodError> {
    match &config.enclave {
        Some(enclave) => {
            let enclave = enclave.clone();
            serve(
                config,
                enclave,
                Presence::of_foreign(),
                service,
                credentials,
                shutdown,
                |_| ready(()),
            )
            .await
        }
        None => {
            let driver = config.kept.nitro_cli(S::NAME);
            run_with_driver(config, driver, service, credentials, shutdown).await
        }
    }
}

/// As [`run`], with an enclave that is kept with `driver`.
///
/// # Errors
/// As [`run`]; also when the enclave is given too little memory to ever start.
pub async fn run_with_driver<S: Service, D: EnclaveDriver>(
    config: Config,
    driver: D,
    service: S,
    credentials: SharedCredentialsProvider,
    shutdown: CancellationToken,
) -> Result<(), PodError> {
    let (launch, measurements) = config.kept.launch().ok_or(PodError::NoEnclave)?;
    // A file that cannot be read may yet come; memory is given once.
    if let Err(error @ ImageError::Memory { .. }) = check_memory(&launch) {
        return Err(PodError::Memory(error.to_string()));
    }
    let enclave = driver.address(APPLICATION_PORT);
    let (sender, presence) = Presence::of_kept();
    let metrics = config.metrics.dimensions();
    let lifecycle = Lifecycle {
        driver,
        launch,
        measurements,
        service: S::NAME,
        metrics,
        presence: sender,
    };
    serve(
        config,
        enclave,
        presence,
        service,
        credentials,
        shutdown,
        |last| lifecycle.run(last),
    )
    .await
}

async fn serve<S: Service, L: Future<Output = ()>>(
    config: Config,
    address: Address,
    presence: Presence,
    service: S,
    credentials: SharedCredentialsProvider,
    shutdown: CancellationToken,
    keep: impl FnOnce(CancellationToken) -> L,
) -> Result<(), PodError> {
    let tls =
        RustlsConfig::from_config(Arc::new(server_config(&config.tls_cert, &config.tls_key)?));
    let https = listen(config.listen)?;
    let plain = listen(config.health_listen)?;
    if let Some(path) = &config.address_file {
        write_addresses(path, &https, &plain)?;
    }

    let service = Arc::new(service);
    let enclave = Client::new(address.clone());
    let lost = Arc::new(Notify::new());
    let health = Arc::new(EnclaveHealth::new(
        enclave.clone(),
        presence.clone(),
        S::NAME,
    ));
    let problem = Problem::default();
    let admin = Admin {
        service: S::NAME,
        health: health.clone(),
        problem: problem.clone(),
        draining: shutdown.clone(),
        enclave: enclave.clone(),
    };
    let relay = Arc::new(Relay::new(enclave.clone(), presence.clone(), lost.clone()));
    let routes = service
        .clone()
        .routes(relay)
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_route);
    let supervisor = Supervisor {
        service,
        enclave,
        presence,
        health,
        credentials,
        cmk_arn: config.cmk_arn.clone(),
        lost,
        problem,
    };
    let egress = Egress::new(address.clone(), config.egress.clone(), Limits::default());

    let (https_handle, plain_handle) = (Handle::new(), Handle::new());
    let renewal = follow(&config.tls_cert, &config.tls_key, tls.clone());
    let answering = serve_https(https, tls, routes, https_handle.clone())?;
    let reporting = serve_plain(plain, admin.routes(), plain_handle.clone())?;
    let (behind, last) = (CancellationToken::new(), CancellationToken::new());
    tracing::info!(service = S::NAME, enclave = %address, egress = %config.egress, "the pod runs");
    let front = async {
        let mut answering = pin!(answering);
        let ended = tokio::select! {
            ended = &mut answering => ended,
            () = shutdown.cancelled() => {
                tracing::info!("shutting down");
                https_handle.graceful_shutdown(Some(DRAIN_DEADLINE));
                answering.await
            }
        };
        // What is behind goes last: requests in flight needed it.
        behind.cancel();
        plain_handle.shutdown();
        ended
    };
    let behind_it = async {
        tokio::join!(
            egress.run(behind.clone()),
            behind.run_until_cancelled(supervisor.run()),
            behind.run_until_cancelled(renewal)
        );
        last.cancel();
    };
    let (answered, reported, (), ()) =
        tokio::join!(front, reporting, behind_it, keep(last.clone()));
    tracing::info!(egress = ?egress.counters().totals(), "the pod ends");
    answered.and(reported).map_err(PodError::Serve)
}

/// Cancelled by SIGTERM, which Kubernetes sends, or SIGINT, which a terminal sends.
///
/// # Errors
/// [`PodError::Signals`].
pub fn terminated() -> Result<CancellationToken, PodError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(PodError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(PodError::Signals)?;
    let token = CancellationToken::new();
    let terminated = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        terminated.cancel();
    });
    Ok(token)
}

fn listen(address: SocketAddr) -> Result<Port, PodError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Port {
            address: listener.local_addr()?,
            listener,
        })
    };
    bind().map_err(|source| PodError::Listen { address, source })
}

struct Port {
    listener: TcpListener,
    address: SocketAddr,
}

/// A reader sees either no file or the whole of it.
fn write_addresses(path: &Path, https: &Port, plain: &Port) -> Result<(), PodError> {
    let addresses = serde_json::json!({ "https": https.address, "health": plain.address });
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, addresses.to_string())
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|source| PodError::AddressFile {
            path: path.to_owned(),
            source,
        })
}

/// Each handshake runs in the task of its own connection: a slow one holds up nobody.
fn serve_https(
    port: Port,
    tls: RustlsConfig,
    routes: Router,
    handle: Handle<SocketAddr>,
) -> Result<impl Future<Output = io::Result<()>>, PodError> {
    let acceptor = RustlsAcceptor::new(tls)
        .handshake_timeout(BODY_DEADLINE)
        .acceptor(NoDelayAcceptor::new());
    let mut server = axum_server::from_tcp(port.listener)
        .map_err(|source| PodError::Listen {
            address: port.address,
            source,
        })?
        .acceptor(acceptor)
        .handle(handle)
        .http1_only();
    // Also how long a connection may idle between two requests.
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_DEADLINE);
    Ok(server.serve(routes.into_make_service()))
}

fn serve_plain(
    port: Port,
    routes: Router,
    handle: Handle<SocketAddr>,
) -> Result<impl Future<Output = io::Result<()>>, PodError> {
    let mut server = axum_server::from_tcp(port.listener)
        .map_err(|source| PodError::Listen {
            address: port.address,
            source,
        })?
        .handle(handle)
        .http1_only();
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(BODY_DEADLINE);
    Ok(server.serve(routes.into_make_service()))
}

/// Where an enclave listens for its pod.
const APPLICATION_PORT: u32 = 5000;
/// For requests in flight at shutdown: a body that is still arriving, and then the whole request.
const DRAIN_DEADLINE: Duration = BODY_DEADLINE.saturating_add(REQUEST_DEADLINE);
