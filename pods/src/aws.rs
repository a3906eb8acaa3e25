//! The pod's own AWS clients: credentials for the enclave, and DynamoDB.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

use crate::config::Config;
use crate::error::PodError;
use crate::http::tls::{certificates, read};

/// Clients made from AWS's standard chain and the configuration.
#[derive(Debug)]
pub struct AwsClients {
    /// Provider of the enclave's role credentials.
    pub credentials: SharedCredentialsProvider,
    /// DynamoDB. The client caches credentials and keeps connections: a warm read costs neither an
    /// STS call nor a handshake.
    pub dynamodb: aws_sdk_dynamodb::Client,
}

impl AwsClients {
    /// Reads AWS's standard environment; endpoints can be overridden there
    /// (`AWS_ENDPOINT_URL_DYNAMODB` and the like).
    ///
    /// # Errors
    /// [`PodError`] if the file of root certificates is unusable.
    pub async fn load(config: &Config) -> Result<Self, PodError> {
        let trust = match &config.aws_ca_file {
            None => TrustStore::empty().with_native_roots(true),
            Some(path) => {
                // The SDK would panic at the first call with an invalid file.
                let mut roots = rustls::RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(PodError::Certificate)?;
                }
                TrustStore::empty()
                    .with_native_roots(false)
                    .with_pem_certificate(read(path)?)
            }
        };
        let tls = TlsContext::builder()
            .with_trust_store(trust)
            .build()
            .map_err(|error| PodError::AwsClient(error.into()))?;
        let https = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls)
            .build_https();
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT)
            .build();
        let sdk = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::new(config.region.to_string()))
            .http_client(https)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard())
            .load()
            .await;
        let credentials = sdk
            .credentials_provider()
            .expect("the standard chain is set by default");
        Ok(Self {
            credentials,
            dynamodb: aws_sdk_dynamodb::Client::new(&sdk),
        })
    }
}

/// Timeout of one attempt of an AWS call; a warm read takes milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Timeout of an AWS call with its retries: leaves time for the enclave within the deadline of the
/// whole request.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
