//! Credentials that expire: an endpoint as ECS and EKS have it, which hands out new ones at every
//! request. <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, SecondsFormat, Utc};
use cloister_contract::Service;
use cloister_stand_in::files;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::identity::{Identities, Identity};

/// A running endpoint; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct CredentialsEndpoint {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl CredentialsEndpoint {
    /// Hands out credentials that live for `lifetime` and writes them to the principals file.
    pub(super) async fn start(
        identities: &Identities,
        principals: PathBuf,
        lifetime: Duration,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("failed to listen for requests for credentials")?;
        let address = listener.local_addr()?;
        let issuer = Issuer {
            // The fixed credentials of both services are not accepted.
            fixed: vec![json!(identities.administrator)],
            roles: Service::ALL.map(|service| {
                let role = &identities.of(service).principal_arn;
                (service, role.clone())
            }),
            principals,
            lifetime,
            issued: Mutex::default(),
        };
        issuer.write(&[])?;
        let router = Router::new()
            .route("/{service}", get(issue))
            .with_state(Arc::new(issuer));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("credentials can no longer be issued: {error}");
            }
        });
        Ok(Self { address, task })
    }

    /// The value of `AWS_CONTAINER_CREDENTIALS_FULL_URI` for a service's pod.
    pub(super) fn url(&self, service: Service) -> String {
        format!("http://{}/{service}", self.address)
    }
}

impl Drop for CredentialsEndpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Issuer {
    fixed: Vec<Value>,
    roles: [(Service, String); 2],
    principals: PathBuf,
    lifetime: Duration,
    issued: Mutex<Vec<(DateTime<Utc>, Value)>>,
}

impl Issuer {
    fn issue(&self, service: &str) -> anyhow::Result<Value> {
        let (_, role) = self
            .roles
            .iter()
            .find(|(known, _)| known.name() == service)
            .context("unknown service")?;
        let identity = Identity::random_with_arn(role.clone())?;
        let expiry = Utc::now() + self.lifetime;
        let mut principal = json!(identity);
        principal["expires_at"] = json!(expiry.timestamp());

        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        // Kept for a while: an expired token is refused with another exception than an unknown one.
        issued.retain(|(expiry, _)| *expiry + self.lifetime > Utc::now());
        issued.push((expiry, principal));
        let live: Vec<_> = issued
            .iter()
            .map(|(_, principal)| principal.clone())
            .collect();
        self.write(&live)?;
        Ok(json!({
            "AccessKeyId": identity.access_key_id,
            "SecretAccessKey": identity.secret_access_key,
            "Token": identity.session_token,
            "Expiration": expiry.to_rfc3339_opts(SecondsFormat::Secs, true),
        }))
    }

    fn write(&self, issued: &[Value]) -> anyhow::Result<()> {
        let all: Vec<_> = self.fixed.iter().chain(issued).collect();
        let text = json!({ "principals": all }).to_string();
        files::replace(&self.principals, text.as_bytes()).context("failed to write the principals")
    }
}

async fn issue(
    State(issuer): State<Arc<Issuer>>,
    Path(service): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    let issued = issuer.issue(&service);
    issued
        .map(Json)
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
