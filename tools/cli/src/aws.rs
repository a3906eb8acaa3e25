//! Credentials, region and HTTPS client from AWS's standard chain.

use std::fs;
use std::path::Path;
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use cloister_client::Client;
use cloister_contract::ErrorChain;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::failure::Failure;
use crate::options::{Api, Common};

/// The configuration of AWS's SDK clients.
pub(crate) async fn configuration(common: &Common) -> Result<SdkConfig, Failure> {
    let https = https(common)?;
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(https.clone())
        .retry_config(RetryConfig::standard())
        .timeout_config(
            TimeoutConfig::builder()
                .operation_timeout(DEADLINE)
                .connect_timeout(CONNECT)
                .build(),
        );
    if let Some(profile) = &common.profile {
        // As in AWS's own CLI, a profile given by name overrides credentials in the environment.
        let region = common.region.clone().map(Region::new);
        let provider = ProviderConfig::default()
            .with_http_client(https)
            .with_region(region);
        let provider = ProfileFileCredentialsProvider::builder()
            .configure(&provider)
            .profile_name(profile)
            .build();
        loader = loader.profile_name(profile).credentials_provider(provider);
    }
    if let Some(region) = &common.region {
        loader = loader.region(Region::new(region.clone()));
    }
    Ok(loader.load().await)
}

/// An HTTPS client that trusts the system's roots and `--ca-file`, and uses the proxy of the
/// environment.
fn https(common: &Common) -> Result<SharedHttpClient, Failure> {
    let mut trust = TrustStore::empty().with_native_roots(true);
    if let Some(file) = &common.ca_file {
        trust = trust.with_pem_certificate(certificates(file)?);
    }
    let tls = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|error| Failure::Here(format!("failed to set up TLS: {}", ErrorChain(&error))))?;
    Ok(
        aws_smithy_http_client::Builder::new().build_with_connector_fn(
            move |settings, components| {
                let mut connector = Connector::builder()
                    .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                    .tls_context(tls.clone())
                    .proxy_config(ProxyConfig::from_env());
                connector.set_connector_settings(settings.cloned());
                connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
                connector.build()
            },
        ),
    )
}

/// The credentials of a configuration.
pub(crate) async fn credentials(configuration: &SdkConfig) -> Result<Credentials, Failure> {
    let missing = |cause: &str| {
        Failure::Here(format!(
            "no AWS credentials found{cause}; give a --profile, set AWS_ACCESS_KEY_ID and its companions, or for single \
             sign-on run: eval \"$(aws configure export-credentials --format env)\""
        ))
    };
    let provider = configuration
        .credentials_provider()
        .ok_or_else(|| missing(""))?;
    provider
        .provide_credentials()
        .await
        .map_err(|error| missing(&format!(" ({})", ErrorChain(&error))))
}

/// A client of the API at `api`, with region and credentials of the standard chain.
pub(crate) async fn client(api: &Api, common: &Common) -> Result<Client, Failure> {
    let configuration = configuration(common).await?;
    let region = region(&api.endpoint, common, &configuration)?;
    let ca = common.ca_file.as_deref().map(certificates).transpose()?;
    Ok(Client::new(
        &api.endpoint,
        &region,
        credentials(&configuration).await?,
        ca.as_deref(),
    )?)
}

/// The region a request to `endpoint` is signed for.
pub(crate) fn region(
    endpoint: &str,
    common: &Common,
    configuration: &SdkConfig,
) -> Result<String, Failure> {
    let given = common
        .region
        .clone()
        .or_else(|| region_of(endpoint).map(str::to_owned));
    given
        .or_else(|| configuration.region().map(Region::to_string))
        .ok_or_else(|| {
            Failure::input("no region: give --region, or set AWS_REGION or the profile's region")
        })
}

/// The region in the host name of an API Gateway endpoint.
pub(crate) fn region_of(endpoint: &str) -> Option<&str> {
    let host = endpoint.split_once("://")?.1.split(['/', ':']).next()?;
    host.split_once(".execute-api.")?
        .1
        .split_once('.')
        .map(|(region, _)| region)
}

/// The content of a PEM file, checked to hold certificates: the SDK would panic at its first call.
pub(crate) fn certificates(file: &Path) -> Result<Vec<u8>, Failure> {
    let problem = |problem: String| {
        Failure::Input(format!(
            "{} (--ca-file, AWS_CA_BUNDLE) {problem}",
            file.display()
        ))
    };
    let pem = fs::read(file).map_err(|error| problem(format!("is not readable: {error}")))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate =
            certificate.map_err(|error| problem(format!("is not a PEM file: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| problem(format!("contains an unusable certificate: {error}")))?;
    }
    if roots.is_empty() {
        Err(problem("contains no certificate".to_owned()))
    } else {
        Ok(pem)
    }
}

const DEADLINE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_part_of_the_host_name() {
        for (endpoint, region) in [
            (
                "https://abc.execute-api.eu-central-1.amazonaws.com/prod",
                Some("eu-central-1"),
            ),
            (
                "https://vpce-1.execute-api.cn-north-1.vpce.amazonaws.com.cn",
                Some("cn-north-1"),
            ),
            ("http://127.0.0.1:8080", None),
            ("https://wallet.example/execute-api.eu-west-1.x", None),
        ] {
            assert_eq!(region_of(endpoint), region, "{endpoint}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let error = certificates(Path::new("/dev/null"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/dev/null") && error.contains("no certificate"),
            "{error}"
        );
    }
}
