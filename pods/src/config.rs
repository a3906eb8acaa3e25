//! Configuration from the command line, then the environment.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use cloister_bridge::AllowList;
use cloister_contract::{Arn, Region, Service, ports};
use cloister_transport::{Address, ByteBudget};
use tracing::level_filters::LevelFilter;

use crate::enclave::driver::Launch;
use crate::enclave::metrics::MetricsConfig;
use crate::enclave::nitro_cli::NitroCli;

/// Configuration of `key-generator-pod`.
#[derive(Debug, clap::Parser)]
#[command(
    name = "key-generator-pod",
    version,
    about = "HTTPS in front of the key generator's enclave"
)]
pub struct KeyGeneratorConfig {
    /// Options of every pod.
    #[command(flatten)]
    pub pod: Config,
    /// Seconds between two probes of the key, which ask KMS for a data key without an enclave; jitter
    /// lengthens them by up to as many [default: no probes]
    #[arg(long, env = "CLOISTER_KEY_PROBE_SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub key_probe_seconds: Option<u32>,
}

/// Configuration of `signer-pod`.
#[derive(Debug, clap::Parser)]
#[command(
    name = "signer-pod",
    version,
    about = "HTTPS in front of the signer's enclave"
)]
pub struct SignerConfig {
    /// Options of every pod.
    #[command(flatten)]
    pub pod: Config,
    /// ARN of the table of sealed rows
    #[arg(long, env = "CLOISTER_TABLE_ARN", value_parser = table_arn)]
    pub table_arn: Arn,
}

/// Options of every pod.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// ip:port for HTTPS
    #[arg(long, env = "CLOISTER_LISTEN", default_value_t = any(ports::POD_HTTPS))]
    pub listen: SocketAddr,
    /// ip:port for /healthz, /readyz, /version and /attestation, in plain HTTP
    #[arg(long, env = "CLOISTER_HEALTH_LISTEN", default_value_t = any(ports::POD_HEALTH))]
    pub health_listen: SocketAddr,
    /// PEM file: the certificate chain
    #[arg(long, env = "CLOISTER_TLS_CERT")]
    pub tls_cert: PathBuf,
    /// PEM file: the key of the certificate
    #[arg(long, env = "CLOISTER_TLS_KEY")]
    pub tls_key: PathBuf,
    /// File of the front door's key, 64 hex digits; on a second line the previous one while it is
    /// accepted
    #[arg(
        long,
        env = "CLOISTER_FRONT_DOOR_KEY_FILE",
        required_unless_present = "front_door_secret",
        conflicts_with = "front_door_secret"
    )]
    pub front_door_key_file: Option<PathBuf>,
    /// ARN of a secret of Secrets Manager: the front door's key, 64 hex digits
    #[arg(long, env = "CLOISTER_FRONT_DOOR_SECRET", value_parser = secret_arn)]
    pub front_door_secret: Option<Arn>,
    /// Seconds between two reads of that secret; jitter lengthens them by up to as many
    #[arg(long, env = "CLOISTER_FRONT_DOOR_SECRET_SECONDS", default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub front_door_secret_seconds: u32,
    /// Address of an externally managed enclave: vsock:CID:PORT, unix:PATH or hybrid:PATH:PORT
    #[arg(
        long,
        env = "CLOISTER_ENCLAVE",
        required_unless_present = "enclave_image",
        requires = "enclave_session_file"
    )]
    pub enclave: Option<Address>,
    /// File of the session value that every boot of an externally managed enclave is bound to: 64
    /// random hex digits, for all its pods and nobody else
    #[arg(
        long,
        env = "CLOISTER_ENCLAVE_SESSION_FILE",
        conflicts_with = "enclave_image"
    )]
    pub enclave_session_file: Option<PathBuf>,
    /// A managed enclave.
    #[command(flatten)]
    pub managed: EnclaveConfig,
    /// Dimensions of the enclave's metrics.
    #[command(flatten)]
    pub metrics: MetricsConfig,
    /// ARN of the CMK for the enclave to adopt
    #[arg(long, env = "CLOISTER_CMK_ARN", value_parser = cmk_arn)]
    pub cmk_arn: Arn,
    /// Destinations that the enclave may reach: host:port or host:port=target:port, separated by
    /// commas
    #[arg(long, env = "CLOISTER_EGRESS")]
    pub egress: AllowList,
    /// The pod's AWS region
    #[arg(long, env = "AWS_REGION")]
    pub region: Region,
    /// PEM file: root certificates for the pod's own AWS calls, instead of the system's
    #[arg(long, env = "CLOISTER_AWS_CA_FILE")]
    pub aws_ca_file: Option<PathBuf>,
    /// File to write the bound addresses to
    #[arg(long, env = "CLOISTER_ADDRESS_FILE")]
    pub address_file: Option<PathBuf>,
    /// MiB of request bodies held at once; more are answered busy [default: a quarter of the
    /// memory that is available at the start]
    #[arg(long, env = "CLOISTER_REQUEST_MEMORY_MIB", value_parser = clap::value_parser!(u32).range(4..))]
    pub request_memory_mib: Option<u32>,
    /// Open HTTPS connections; a further one closes the one that has been idle longest
    #[arg(long, env = "CLOISTER_MAX_CONNECTIONS", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// error, warn, info, debug or trace
    #[arg(long, env = "CLOISTER_LOG", default_value = "info")]
    pub log: LevelFilter,
}

impl Config {
    /// The budget for the bytes of request bodies.
    pub(crate) fn byte_budget(&self) -> ByteBudget {
        match self.request_memory_mib {
            Some(mib) => ByteBudget::new(usize::try_from(mib).unwrap_or(usize::MAX) << 20),
            None => ByteBudget::of_available_memory(),
        }
    }
}

/// The enclave that the pod starts and restarts. Without an image it starts none.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Managed enclave")]
pub struct EnclaveConfig {
    /// The image: an EIF file
    #[arg(
        long,
        env = "CLOISTER_ENCLAVE_IMAGE",
        conflicts_with = "enclave",
        requires_all = ["enclave_measurements", "enclave_cpus", "enclave_memory_mib"]
    )]
    pub enclave_image: Option<PathBuf>,
    /// Expected measurements: the measurements.json that was written with the image
    #[arg(long, env = "CLOISTER_ENCLAVE_MEASUREMENTS")]
    pub enclave_measurements: Option<PathBuf>,
    /// Virtual CPUs; whole cores, two each on x86-64
    #[arg(long, env = "CLOISTER_ENCLAVE_CPUS", value_parser = clap::value_parser!(u32).range(1..))]
    pub enclave_cpus: Option<u32>,
    /// Memory in MiB; at least 64 and four times the image's size
    #[arg(long, env = "CLOISTER_ENCLAVE_MEMORY_MIB", value_parser = clap::value_parser!(u32).range(64..))]
    pub enclave_memory_mib: Option<u32>,
    /// Copy the console to this log. The enclave's registers are zeros then: no key policy of a
    /// deployment admits it
    #[arg(long, env = "CLOISTER_ENCLAVE_DEBUG")]
    pub enclave_debug: bool,
    /// Name at nitro-cli, unique on the machine [default: cloister-SERVICE]
    #[arg(long, env = "CLOISTER_ENCLAVE_NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub enclave_name: Option<String>,
    /// Vsock context id [default: random]
    #[arg(long, env = "CLOISTER_ENCLAVE_CID", value_parser = clap::value_parser!(u32).range(4..i64::from(u32::MAX)))]
    pub enclave_cid: Option<u32>,
    /// The nitro-cli program [default: nitro-cli]
    #[arg(long, env = "CLOISTER_NITRO_CLI")]
    pub nitro_cli: Option<PathBuf>,
}

impl EnclaveConfig {
    /// The enclave to start, and the file of its expected measurements.
    pub(crate) fn launch(&self) -> Option<(Launch, PathBuf)> {
        let launch = Launch {
            image: self.enclave_image.clone()?,
            cpus: self.enclave_cpus?,
            memory_mib: self.enclave_memory_mib?,
            debug: self.enclave_debug,
        };
        Some((launch, self.enclave_measurements.clone()?))
    }

    /// The driver for enclaves of `service`. A random context id never changes during the pod's
    /// lifetime.
    pub(crate) fn nitro_cli(&self, service: Service) -> NitroCli {
        let program = self.nitro_cli.clone().unwrap_or_else(|| "nitro-cli".into());
        let name = self
            .enclave_name
            .clone()
            .unwrap_or_else(|| format!("cloister-{service}"));
        NitroCli::new(program, name, self.enclave_cid.unwrap_or_else(random_cid))
    }
}

/// Far from the well-known ids and from those that nitro-cli chooses, and with room above: the
/// console has the port CID + 10 000.
fn random_cid() -> u32 {
    let [.., a, b, c] = *uuid::Uuid::new_v4().as_bytes();
    u32::from_be_bytes([1, a, b, c])
}

/// The port on all addresses.
fn any(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

/// Detects mistakes early; the enclave decides which CMK it adopts.
fn cmk_arn(text: &str) -> Result<Arn, &'static str> {
    regional(text, "kms", "key/").ok_or("expected arn:PARTITION:kms:REGION:ACCOUNT:key/ID")
}

fn table_arn(text: &str) -> Result<Arn, &'static str> {
    regional(text, "dynamodb", "table/")
        .ok_or("expected arn:PARTITION:dynamodb:REGION:ACCOUNT:table/NAME")
}

fn secret_arn(text: &str) -> Result<Arn, &'static str> {
    regional(text, "secretsmanager", "secret:")
        .ok_or("expected arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME")
}

fn regional(text: &str, service: &str, kind: &str) -> Option<Arn> {
    let arn: Arn = text.parse().ok()?;
    arn.regional(service, kind).is_some().then_some(arn)
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
            ("--front-door-key-file", "/key"),
            ("--enclave", "vsock:16:5000"),
            ("--enclave-session-file", "/run/session"),
            ("--cmk-arn", CMK),
            ("--table-arn", TABLE),
            ("--egress", "kms.eu-central-1.amazonaws.com:443"),
            ("--region", "eu-central-1"),
        ]);
        options.extend(changes.iter().copied());
        let arguments = options
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .flat_map(|(name, value)| [name, value]);
        SignerConfig::try_parse_from(std::iter::once("signer-pod").chain(arguments))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_complete_configuration() {
        let config = parse(&[("--log", "debug")]).unwrap();
        assert_eq!(
            config.pod.enclave,
            Some(Address::Vsock {
                cid: 16,
                port: ports::REQUESTS
            })
        );
        assert_eq!(config.pod.managed.launch(), None);
        assert_eq!(config.pod.listen.port(), ports::POD_HTTPS);
        assert_eq!(config.pod.health_listen.port(), ports::POD_HEALTH);
        assert_eq!(config.pod.log, LevelFilter::DEBUG);
        assert_eq!(
            (config.pod.cmk_arn.to_string(), config.table_arn.to_string()),
            (CMK.to_owned(), TABLE.to_owned())
        );
    }

    #[test]
    fn a_managed_enclave() {
        let complete = [
            ("--enclave", ""),
            ("--enclave-session-file", ""),
            ("--enclave-image", "signer.eif"),
            ("--enclave-measurements", "measurements.json"),
            ("--enclave-cpus", "2"),
            ("--enclave-memory-mib", "128"),
        ];
        let config = parse(&complete).unwrap().pod;
        assert_eq!(config.enclave, None);
        let (launch, measurements) = config.managed.launch().unwrap();
        assert_eq!(
            launch,
            Launch {
                image: "signer.eif".into(),
                cpus: 2,
                memory_mib: 128,
                debug: false
            }
        );
        assert_eq!(measurements, PathBuf::from("measurements.json"));
        for missing in [
            "--enclave-measurements",
            "--enclave-cpus",
            "--enclave-memory-mib",
        ] {
            let said = parse(&[&complete[..], &[(missing, "")]].concat()).unwrap_err();
            assert!(said.contains(missing), "{said}");
        }
        for (name, value) in [
            ("--enclave", "vsock:16:5000"),
            ("--enclave-cpus", "0"),
            ("--enclave-memory-mib", "63"),
            ("--enclave-cid", "3"),
            ("--enclave-cid", "4294967295"),
        ] {
            let said = parse(&[&complete[..], &[(name, value)]].concat()).unwrap_err();
            assert!(said.contains(name), "{said}");
        }
    }

    #[test]
    fn an_external_enclave_has_a_session_file_and_a_managed_one_has_none() {
        let said = parse(&[("--enclave-session-file", "")]).unwrap_err();
        assert!(said.contains("--enclave-session-file"), "{said}");
        let said = parse(&[
            ("--enclave", ""),
            ("--enclave-image", "signer.eif"),
            ("--enclave-measurements", "measurements.json"),
            ("--enclave-cpus", "2"),
            ("--enclave-memory-mib", "128"),
        ])
        .unwrap_err();
        assert!(said.contains("--enclave-session-file"), "{said}");
    }

    #[test]
    fn the_front_doors_key_has_one_source() {
        const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:x-AbCdEf";
        let config = parse(&[
            ("--front-door-key-file", ""),
            ("--front-door-secret", SECRET),
        ]);
        assert_eq!(
            config.unwrap().pod.front_door_secret.unwrap().to_string(),
            SECRET
        );
        let both = parse(&[("--front-door-secret", SECRET)]).unwrap_err();
        let neither = parse(&[("--front-door-key-file", "")]).unwrap_err();
        for said in [both, neither] {
            assert!(said.contains("--front-door-key-file"), "{said}");
        }
    }

    #[test]
    fn context_ids_are_random_and_in_a_sane_range() {
        let cids = [random_cid(), random_cid(), random_cid(), random_cid()];
        assert!(
            cids.iter().all(|cid| (1 << 24..1 << 25).contains(cid)),
            "{cids:?}"
        );
        assert!(cids.iter().any(|cid| *cid != cids[0]));
    }

    #[test]
    fn mistakes_are_named() {
        for (name, value) in [
            ("--enclave", "16:5000"),
            ("--cmk-arn", TABLE),
            ("--cmk-arn", "1234abcd"),
            ("--cmk-arn", "arn:aws:kms:eu-central-1:1111:key/1"),
            ("--table-arn", CMK),
            (
                "--table-arn",
                "arn:aws:dynamodb:eu-central-1:111122223333:table/",
            ),
            ("--front-door-secret", CMK),
            ("--front-door-secret-seconds", "0"),
            ("--egress", "kms.eu-central-1.amazonaws.com"),
            ("--region", "eu-central-1/x"),
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
        assert!(
            said.contains("--cmk-arn") && said.contains("--enclave"),
            "{said}"
        );
    }
}
