//! AWS clients built by hand: region, host names and roots are the measured ones; environment,
//! profile, instance metadata and endpoint overrides have no effect.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as ProvideCredentialsFuture;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_kms::config::{BehaviorVersion, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::SystemTimeSource;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use cloister_protocol::message;

use crate::Settings;

/// Makes the configuration of AWS clients.
#[derive(Clone, Debug)]
pub struct Aws {
    settings: Arc<Settings>,
    http: SharedHttpClient,
}

impl Aws {
    /// Clients of the measured region that send their requests through `http`.
    pub fn new(settings: Arc<Settings>, http: SharedHttpClient) -> Self {
        Self { settings, http }
    }

    /// The configuration of a client of `service`, such as `kms`, under `credentials`.
    pub fn config(
        &self,
        service: &str,
        credentials: impl ProvideCredentials + 'static,
    ) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.settings.deployment.region.clone()))
            // Set explicitly: neither the environment nor an account's own DynamoDB endpoint
            // decides.
            .endpoint_url(format!("https://{}", self.settings.host(service)))
            .http_client(self.http.clone())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            // Every request asks the provider: replaced credentials are in use at once.
            .identity_cache(IdentityCache::no_cache())
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(MAX_ATTEMPTS)
                    .with_initial_backoff(FIRST_BACKOFF),
            )
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .read_timeout(READ_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .operation_timeout(OPERATION_TIMEOUT)
                    .build(),
            )
            // The timeouts above include the body.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .sleep_impl(TokioSleep::new())
            .time_source(SystemTimeSource::new())
            .build()
    }
}

/// The credentials in use. Clones share them; clients that use them see a replacement with their
/// next request.
#[derive(Clone, Default)]
pub struct CurrentCredentials(Arc<RwLock<Option<Credentials>>>);

impl CurrentCredentials {
    /// Replaces the credentials.
    pub fn replace(&self, credentials: Credentials) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(credentials);
    }
}

impl ProvideCredentials for CurrentCredentials {
    fn provide_credentials<'a>(&'a self) -> ProvideCredentialsFuture<'a>
    where
        Self: 'a,
    {
        let current = self
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        ProvideCredentialsFuture::ready(
            current.ok_or_else(|| {
                CredentialsError::not_loaded("the pod has not pushed credentials yet")
            }),
        )
    }
}

impl fmt::Debug for CurrentCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CurrentCredentials(..)")
    }
}

/// Converts what a pod pushed to the SDK's type.
pub(crate) fn credentials(pushed: &message::Credentials) -> Credentials {
    let token = pushed.session_token.expose();
    Credentials::new(
        pushed.access_key_id.expose(),
        pushed.secret_access_key.expose(),
        (!token.is_empty()).then(|| token.to_owned()),
        // A time beyond the system's range never comes.
        pushed
            .expires_at
            .and_then(|at| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at))),
        "pod",
    )
}

/// Dialling through the pod and the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// From the request to the head of the reply.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// One attempt, connecting and reading included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// All attempts. A request has ten seconds, in which a new key takes two calls of KMS and two of
/// the table.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(3500);
/// First try included.
const MAX_ATTEMPTS: u32 = 3;
/// Before the first repetition.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
