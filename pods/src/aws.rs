//! The pod's own AWS clients: credentials for the enclave, DynamoDB, KMS and Secrets Manager.

use std::error::Error as _;
use std::fmt;
use std::iter::successors;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

use crate::config::Config;
use crate::error::PodError;
use crate::front_door_keys::FrontDoorKeySource;
use crate::http::tls::{certificates, read};

/// Clients made from AWS's standard chain and the configuration.
#[derive(Debug)]
pub struct AwsClients {
    /// Provider of the enclave's role credentials.
    pub credentials: SharedCredentialsProvider,
    /// DynamoDB. The client caches credentials and keeps connections: a warm read costs neither an
    /// STS call nor a handshake.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// KMS, for the probe of the key only.
    pub kms: aws_sdk_kms::Client,
    /// Secrets Manager.
    pub secrets: aws_sdk_secretsmanager::Client,
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
            kms: aws_sdk_kms::Client::new(&sdk),
            secrets: aws_sdk_secretsmanager::Client::new(&sdk),
        })
    }

    /// The configured source of the front door's key.
    ///
    /// # Errors
    /// [`PodError::NoFrontDoorKey`] unless exactly one is configured.
    pub fn front_door_keys(&self, config: &Config) -> Result<FrontDoorKeySource, PodError> {
        match (&config.front_door_key_file, &config.front_door_secret) {
            (Some(path), None) => Ok(FrontDoorKeySource::File(path.clone())),
            (None, Some(arn)) => Ok(FrontDoorKeySource::Secret {
                client: self.secrets.clone(),
                arn: arn.clone(),
                interval: Duration::from_secs(config.front_door_secret_seconds.into()),
            }),
            _ => Err(PodError::NoFrontDoorKey),
        }
    }
}

/// A credentials error with its causes, without the messages of AWS services: they may repeat parts
/// of a signed request. Of a service error, only the code is left.
#[derive(Debug)]
pub(crate) struct CredentialsCause<'a>(pub(crate) &'a CredentialsError);

impl fmt::Display for CredentialsCause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        write!(f, "{text}")?;
        for source in successors(self.0.source(), |&error| error.source()) {
            let from_service = text == SERVICE_ERROR;
            text = source.to_string();
            if from_service {
                // `ExpiredTokenException: MESSAGE` or `unhandled error (CODE)`.
                let code = text.split(':').next().unwrap_or_default();
                return write!(f, ": {code}");
            }
            write!(f, ": {text}")?;
        }
        Ok(())
    }
}

/// `Display` of `SdkError::ServiceError` (aws-smithy-runtime-api), whose source is the service's.
const SERVICE_ERROR: &str = "service error";
/// Timeout of one attempt of an AWS call; a warm read takes milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Timeout of an AWS call with its retries: leaves time for the enclave within the deadline of the
/// whole request.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    fn chain(texts: &[&'static str]) -> Option<Box<Link>> {
        let (text, rest) = texts.split_first()?;
        let source = chain(rest);
        Some(Box::new(Link { text, source }))
    }

    #[test]
    fn messages_of_aws_services_are_left_out() {
        for (causes, expected) in [
            (
                &["service error", "ExpiredTokenException: private", "private"][..],
                "service error: ExpiredTokenException",
            ),
            (
                &["service error", "unhandled error (AccessDenied)", "private"],
                "service error: unhandled error (AccessDenied)",
            ),
            (
                &[
                    "dispatch failure",
                    "io error",
                    "connection refused: localhost",
                ],
                "dispatch failure: io error: connection refused: localhost",
            ),
        ] {
            let error = CredentialsError::provider_error(chain(causes).unwrap());
            assert_eq!(
                CredentialsCause(&error).to_string(),
                format!("an error occurred while loading credentials: {expected}")
            );
        }
    }
}
