//! A pod, from binding its ports to its last response.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use axum::middleware::from_fn_with_state;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use cloister_bridge::{Egress, Limits};
use cloister_contract::{events, ports};
use cloister_protocol::front_door::FrontDoorKeys;
use cloister_protocol::limits::{BODY_DEADLINE, REQUEST_DEADLINE};
use cloister_transport::{Address, Client, Session};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::enclave::driver::EnclaveDriver;
use crate::enclave::health::EnclaveHealth;
use crate::enclave::image::{ImageError, check_memory};
use crate::enclave::nitro_cli::NitroCli;
use crate::enclave::readiness::{LastProblem, ReadinessKeeper};
use crate::enclave::session;
use crate::enclave::status::EnclaveStatus;
use crate::enclave::supervisor::Supervisor;
use crate::error::PodError;
use crate::front_door_keys::FrontDoorKeySource;
use crate::http::admin::Admin;
use crate::http::authentication::admit_front_door;
use crate::http::connections::Connections;
use crate::http::health::ServiceHealth;
use crate::http::listen::{Port, serve_https, serve_plain, write_addresses};
use crate::http::relay::{Relay, unknown_route};
use crate::http::tls::{follow, server_config};
use crate::service::PodService;

/// A pod that is ready to run: its ports are bound.
#[derive(Debug)]
pub struct Pod<S, D = NitroCli> {
    config: Config,
    service: Arc<S>,
    credentials: SharedCredentialsProvider,
    keys: FrontDoorKeySource,
    keyring: watch::Sender<Option<FrontDoorKeys>>,
    enclave: Enclave<D>,
    tls: RustlsConfig,
    https: Port,
    plain: Port,
}

/// The pod's enclave.
#[derive(Debug)]
struct Enclave<D> {
    address: Address,
    session: Session,
    status: EnclaveStatus,
    /// `None` if the enclave is managed externally.
    supervisor: Option<Supervisor<D>>,
}

impl<S: PodService> Pod<S> {
    /// A pod with the external enclave of `config`, or with one that it runs with `nitro-cli`.
    ///
    /// # Errors
    /// [`PodError`] if the configuration is invalid or a port is not available.
    pub fn new(
        config: Config,
        service: S,
        credentials: SharedCredentialsProvider,
        keys: FrontDoorKeySource,
    ) -> Result<Self, PodError> {
        match (&config.enclave, &config.enclave_session_file) {
            (Some(enclave), Some(file)) => {
                let enclave = Enclave {
                    address: enclave.clone(),
                    session: session::from_file(file)?,
                    status: EnclaveStatus::external(),
                    supervisor: None,
                };
                Self::build(config, service, credentials, keys, enclave)
            }
            _ => {
                let driver = config.managed.nitro_cli(S::SERVICE);
                Self::with_driver(config, driver, service, credentials, keys)
            }
        }
    }
}

impl<S: PodService, D: EnclaveDriver> Pod<S, D> {
    /// A pod with an enclave that it runs with `driver`.
    ///
    /// # Errors
    /// As [`Pod::new`]; also if the enclave's memory is too small for its image.
    pub fn with_driver(
        config: Config,
        driver: D,
        service: S,
        credentials: SharedCredentialsProvider,
        keys: FrontDoorKeySource,
    ) -> Result<Self, PodError> {
        let (launch, measurements) = config.managed.launch().ok_or(PodError::NoEnclave)?;
        // A missing image may still appear, but the memory is fixed.
        if let Err(error @ ImageError::Memory { .. }) = check_memory(&launch) {
            return Err(PodError::Memory(error.into()));
        }
        let address = driver.address(ports::REQUESTS);
        let session = Session::new(session::random().map_err(PodError::Randomness)?);
        let (sender, status) = EnclaveStatus::managed();
        let supervisor = Supervisor {
            driver,
            launch,
            measurements,
            service: S::SERVICE,
            metrics: config.metrics.dimensions(),
            session: session.clone(),
            status: sender,
        };
        let enclave = Enclave {
            address,
            session,
            status,
            supervisor: Some(supervisor),
        };
        Self::build(config, service, credentials, keys, enclave)
    }

    /// The session that the pod binds its enclave to; another one for each boot of a managed
    /// enclave.
    pub fn session(&self) -> Session {
        self.enclave.session.clone()
    }

    fn build(
        config: Config,
        service: S,
        credentials: SharedCredentialsProvider,
        keys: FrontDoorKeySource,
        enclave: Enclave<D>,
    ) -> Result<Self, PodError> {
        let tls =
            RustlsConfig::from_config(Arc::new(server_config(&config.tls_cert, &config.tls_key)?));
        let (keyring, _) = watch::channel(keys.at_start()?);
        let https = Port::bind(config.listen)?;
        let plain = Port::bind(config.health_listen)?;
        if let Some(path) = &config.address_file {
            write_addresses(path, &https, &plain)?;
        }
        Ok(Self {
            config,
            service: Arc::new(service),
            credentials,
            keys,
            keyring,
            enclave,
            tls,
            https,
            plain,
        })
    }

    /// Serves until `shutdown`, then until every request in flight is answered, and terminates the
    /// managed enclave.
    ///
    /// # Errors
    /// [`PodError`] if a server cannot start, or stops before `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), PodError> {
        let Self {
            config,
            service,
            credentials,
            keys,
            keyring,
            enclave,
            tls,
            https,
            plain,
        } = self;
        let Enclave {
            address,
            session,
            status,
            supervisor,
        } = enclave;

        let enclave = Client::new(address.clone(), session.clone());
        let lost = Arc::new(Notify::new());
        let last_problem = LastProblem::default();
        let health = Arc::new(EnclaveHealth::new(
            enclave.clone(),
            status.clone(),
            S::SERVICE,
        ));
        let relay = Arc::new(Relay::new(
            enclave.clone(),
            status.clone(),
            config.byte_budget(),
            lost.clone(),
        ));
        let routes = service
            .clone()
            .routes(relay)
            .merge(ServiceHealth::new(service.clone(), enclave.clone(), health.clone()).routes())
            .fallback(unknown_route)
            .method_not_allowed_fallback(unknown_route)
            // Around every route, so that none can be reached without it.
            .layer(from_fn_with_state(keyring.subscribe(), admit_front_door));
        let admin = Admin {
            service: S::SERVICE,
            health: health.clone(),
            last_problem: last_problem.clone(),
            draining: shutdown.clone(),
            front_door_keys: keyring.subscribe(),
            enclave: enclave.clone(),
        };
        let readiness = ReadinessKeeper {
            service,
            enclave,
            status,
            health,
            credentials,
            cmk_arn: config.cmk_arn.clone(),
            lost,
            last_problem,
        };
        let allow = config.egress.clone();
        let egress = Egress::new(address.clone(), session, allow, Limits::default());
        let renewal = follow(&config.tls_cert, &config.tls_key, tls.clone());

        let (https_handle, plain_handle) = (Handle::new(), Handle::new());
        let connections = Connections::new(config.max_connections);
        let requests = serve_https(https, tls, routes, connections, https_handle.clone())?;
        let reports = serve_plain(plain, admin.routes(), plain_handle.clone())?;
        tracing::info!(
            event = events::POD_STARTED,
            service = %S::SERVICE,
            enclave = %address,
            egress = %config.egress,
            "the pod runs"
        );

        // Three stages end one after the other: requests, the backends they need, the enclave.
        let (stop_backends, stop_enclave) = (CancellationToken::new(), CancellationToken::new());
        let front = async {
            let served = drain(requests, &https_handle, &shutdown).await;
            stop_backends.cancel();
            plain_handle.shutdown();
            served
        };
        let backends = async {
            tokio::join!(
                egress.run(stop_backends.clone()),
                stop_backends.run_until_cancelled(readiness.run()),
                stop_backends.run_until_cancelled(renewal),
                stop_backends.run_until_cancelled(keys.follow(keyring))
            );
            stop_enclave.cancel();
        };
        let supervision = async {
            if let Some(supervisor) = supervisor {
                supervisor.run(stop_enclave.clone()).await;
            }
        };
        let (served, reported, (), ()) = tokio::join!(front, reports, backends, supervision);
        tracing::info!(
            event = events::POD_ENDED,
            egress = ?egress.counters().totals(),
            "the pod ends"
        );
        served.and(reported).map_err(PodError::Serve)
    }
}

/// Serves until `shutdown`, and then until no request is in flight.
async fn drain(
    server: impl Future<Output = io::Result<()>>,
    handle: &Handle<SocketAddr>,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    let mut server = pin!(server);
    tokio::select! {
        ended = &mut server => ended,
        () = shutdown.cancelled() => {
            tracing::info!(event = events::POD_DRAINING, "shutting down");
            handle.graceful_shutdown(Some(DRAIN_DEADLINE));
            server.await
        }
    }
}

/// For requests in flight at shutdown: a body that is still arriving, and then the whole request.
const DRAIN_DEADLINE: Duration = BODY_DEADLINE.saturating_add(REQUEST_DEADLINE);
