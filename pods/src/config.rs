//! The configuration, read once: command line first, then environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use cloister_bridge::AllowList;
use cloister_transport::Address;
use tracing::level_filters::LevelFilter;

/// Configuration of `key-generator-pod`.
#[derive(Debug, clap::Parser)]
#[command(name = "key-generator-pod", version, about = "HTTPS in front of the key generator's enclave")]
pub struct KeyGeneratorConfig {
    /// What every pod needs.
    #[command(flatten)]
    pub pod: Config,
}

/// Configuration of `signer-pod`.
#[derive(Debug, clap::Parser)]
#[command(name = "signer-pod", version, about = "HTTPS in front of the signer's enclave")]
pub struct SignerConfig {
    /// What every pod needs.
    #[command(flatten)]
    pub pod: Config,
    /// ARN of the table of sealed rows
    #[arg(long, env = "CLOISTER_TABLE_ARN", value_parser = table_arn)]
    pub table_arn: String,
}

/// What every pod needs.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Where to serve HTTPS
    #[arg(long, env = "CLOISTER_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,
    /// Where to serve /healthz, /readyz and /version, in plain HTTP
    #[arg(long, env = "CLOISTER_HEALTH_LISTEN", default_value = "0.0.0.0:8080")]
    pub health_listen: SocketAddr,
    /// PEM file: the certificate chain
    #[arg(long, env = "CLOISTER_TLS_CERT")]
    pub tls_cert: PathBuf,
    /// PEM file: the key of the certificate
    #[arg(long, env = "CLOISTER_TLS_KEY")]
    pub tls_key: PathBuf,
    /// The enclave: vsock:CID:PORT or unix:PATH
    #[arg(long, env = "CLOISTER_ENCLAVE")]
    pub enclave: Address,
    /// ARN of the CMK that the enclave is to adopt
    #[arg(long, env = "CLOISTER_CMK_ARN", value_parser = cmk_arn)]
    pub cmk_arn: String,
    /// What the enclave may reach: host:port or host:port=target:port, separated by commas
    #[arg(long, env = "CLOISTER_EGRESS")]
    pub egress: AllowList,
    /// The pod's own region
    #[arg(long, env = "AWS_REGION")]
    pub region: String,
    /// PEM file: roots for the pod's own AWS calls, instead of the system's
    #[arg(long, env = "CLOISTER_AWS_CA_FILE")]
    pub aws_ca_file: Option<PathBuf>,
    /// File to write the bound addresses to
    #[arg(long, env = "CLOISTER_ADDRESS_FILE")]
    pub address_file: Option<PathBuf>,
    /// error, warn, info, debug or trace
    #[arg(long, env = "CLOISTER_LOG", default_value = "info")]
    pub log: LevelFilter,
}

fn cmk_arn(text: &str) -> Result<String, &'static str> {
    is_arn(text, "kms", "key/").then(|| text.to_owned()).ok_or("expected arn:PARTITION:kms:REGION:ACCOUNT:key/ID")
}

fn table_arn(text: &str) -> Result<String, &'static str> {
    is_arn(text, "dynamodb", "table/")
        .then(|| text.to_owned())
        .ok_or("expected arn:PARTITION:dynamodb:REGION:ACCOUNT:table/NAME")
}

/// Enough to catch a mistake before it becomes a puzzling answer of AWS; the enclave decides what it believes.
fn is_arn(text: &str, service: &str, resource: &str) -> bool {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    matches!(parts[..], ["arn", partition, of, region, account, name]
        if !partition.is_empty() && of == service && !region.is_empty()
            && account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit())
            && name.strip_prefix(resource).is_some_and(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    const CMK: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd";
    const TABLE: &str = "arn:aws:dynamodb:eu-central-1:111122223333:table/rows";

    fn parse(changes: &[(&str, &str)]) -> Result<SignerConfig, String> {
        let mut options = std::collections::BTreeMap::from([
            ("--tls-cert", "/tls/cert.pem"),
            ("--tls-key", "/tls/key.pem"),
            ("--enclave", "vsock:16:5000"),
            ("--cmk-arn", CMK),
            ("--table-arn", TABLE),
            ("--egress", "kms.eu-central-1.amazonaws.com:443"),
            ("--region", "eu-central-1"),
        ]);
        options.extend(changes.iter().copied());
        let arguments =
            options.into_iter().filter(|(_, value)| !value.is_empty()).flat_map(|(name, value)| [name, value]);
        SignerConfig::try_parse_from(std::iter::once("signer-pod").chain(arguments)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_whole_configuration() {
        let config = parse(&[("--log", "debug")]).unwrap();
        assert_eq!(config.pod.enclave, Address::Vsock { cid: 16, port: 5000 });
        assert_eq!(config.pod.listen.port(), 8443);
        assert_eq!(config.pod.log, LevelFilter::DEBUG);
        assert_eq!((config.pod.cmk_arn.as_str(), config.table_arn.as_str()), (CMK, TABLE));
    }

    #[test]
    fn mistakes_are_named() {
        for (name, value) in [
            ("--enclave", "16:5000"),
            ("--cmk-arn", TABLE),
            ("--cmk-arn", "1234abcd"),
            ("--cmk-arn", "arn:aws:kms:eu-central-1:1111:key/1"),
            ("--table-arn", CMK),
            ("--table-arn", "arn:aws:dynamodb:eu-central-1:111122223333:table/"),
            ("--egress", "kms.eu-central-1.amazonaws.com"),
            ("--listen", "8443"),
            ("--log", "loud"),
        ] {
            let said = parse(&[(name, value)]).unwrap_err();
            assert!(said.contains(name) && said.contains(value), "{said}");
        }
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let said = parse(&[("--cmk-arn", ""), ("--enclave", "")]).unwrap_err();
        assert!(said.contains("--cmk-arn") && said.contains("--enclave"), "{said}");
    }
}
