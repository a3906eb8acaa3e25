//! Program, arguments and environment of each part.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cloister_contract::Service;
use cloister_key_policy::Pcr0;
use tracing::level_filters::LevelFilter;

use super::enclaves::{Image, Measured};
use super::ports::{Port, Ports};
use super::{Aws, Location, SESSION_FILE};
use crate::chain;
use crate::child::{Program, binary};
use crate::identity::{ACCOUNT, FRONT_DOOR_KEY_FILE, REGION, table_arn};
use crate::part::Part;
use crate::ready::Addresses;
use crate::settings::{Processes, enclave_program};

impl Location {
    /// Pods take a level, other programs a filter; enclaves take neither.
    fn logging(&self, program: Program) -> Program {
        let Some(filter) = &self.log else {
            return program;
        };
        let program = program.variable("RUST_LOG", filter);
        if filter.parse::<LevelFilter>().is_ok() {
            program.variable("CLOISTER_LOG", filter)
        } else {
            program
        }
    }

    pub(super) fn dynalite(&self) -> Program {
        // Given a path, dynalite's `--port` is a unix socket, which other users cannot reach.
        Program::new(Part::Dynalite.as_str(), self.packages.node())
            .argument(self.packages.dynalite())
            .option("port", self.socket(Part::Dynalite.as_str()))
            .option("path", self.data.path("dynamodb"))
            .option("createTableMs", "0")
            .variable("AWS_REGION", REGION)
            .variable("AWS_ACCOUNT_ID", ACCOUNT)
    }

    pub(super) fn table(&self) -> anyhow::Result<Program> {
        let name = Part::Table.as_str();
        let tls = self.authority.server(
            &self.data,
            name,
            &[&format!("dynamodb.{REGION}.amazonaws.com")],
        )?;
        Ok(self
            .logging(Program::new(name, binary("cloister-local-table")?))
            .option("listen", self.ports.address(Port::Table).to_string())
            .option("address-file", self.address_file(name))
            .option("tls-cert", tls.certificate)
            .option("tls-key", tls.key)
            .option("dynalite", self.socket(Part::Dynalite.as_str()))
            .option("principals", self.data.path("principals.json"))
            .option("region", REGION)
            .option("table-arn", table_arn()))
    }

    pub(super) fn kms(&self, measured: &Measured) -> anyhow::Result<Program> {
        let name = Part::Kms.as_str();
        let tls =
            self.authority
                .server(&self.data, name, &[&format!("kms.{REGION}.amazonaws.com")])?;
        let kms = self
            .logging(Program::new(name, binary("cloister-local-kms")?))
            .option("listen", self.ports.address(Port::Kms).to_string())
            .option("address-file", self.address_file(name))
            .option("data", self.data.path("kms"))
            .option("tls-cert", tls.certificate)
            .option("tls-key", tls.key)
            .option("nsm-root", self.data.path("pki/nsm-root.der"))
            .option("principals", self.data.path("principals.json"))
            .option("region", REGION)
            .option("account", ACCOUNT);
        Ok(match measured {
            Measured::Processes(_) => kms,
            Measured::Images(_) => kms.argument("--accept-unsigned-documents-of-the-emulator"),
        })
    }

    pub(super) fn anvil(&self) -> Program {
        Program::new(Part::Anvil.as_str(), self.packages.anvil())
            .option("host", "127.0.0.1")
            .option("port", self.ports.address(Port::Chain).port().to_string())
            .option("chain-id", CHAIN_ID)
            .option("hardfork", "prague")
            // Read at the start, written every few seconds and at the end: balances survive a
            // restart like the keys that own them.
            .option("state", self.data.path(chain::STATE_FILE))
            .option("state-interval", "5")
    }

    pub(super) fn enclave(
        &self,
        service: Service,
        processes: &Processes,
    ) -> anyhow::Result<Program> {
        self.enclave_as(
            Part::enclave(service).as_str(),
            service,
            processes,
            &processes.pcr0(service),
        )
    }

    pub(super) fn enclave_as(
        &self,
        name: &str,
        service: Service,
        processes: &Processes,
        pcr0: &Pcr0,
    ) -> anyhow::Result<Program> {
        let settings = self.data.write(
            &format!("settings/{name}.json"),
            processes.settings(service),
        )?;
        Ok(self
            .logging(Program::new(name, binary(enclave_program(service))?))
            .option("listen", with_prefix("unix:", &self.socket(name)))
            .option("settings", settings)
            .option("nsm-pki", self.data.path("pki/nsm.pem"))
            .option("pcr0", pcr0.to_string()))
    }

    /// The pod of an enclave that is a process, or of one that it keeps in an emulator. Without
    /// `ports` it listens on any.
    pub(super) fn pod(
        &self,
        name: &str,
        service: Service,
        ports: Option<Ports>,
        enclave: &Enclave<'_>,
        aws: &Aws<'_>,
    ) -> anyhow::Result<Program> {
        let listen = |port: fn(Service) -> Port| {
            ports.map_or_else(
                || ANY_PORT.to_owned(),
                |ports| ports.address(port(service)).to_string(),
            )
        };
        let pod = match enclave {
            Enclave::Process(socket) => Program::new(name, binary(pod_program(service))?)
                .variable("CLOISTER_ENCLAVE", with_prefix("unix:", socket))
                .variable(
                    "CLOISTER_ENCLAVE_SESSION_FILE",
                    self.data.path(SESSION_FILE),
                ),
            Enclave::Image(enclave, image) => self.emulating_pod(name, service, enclave, image)?,
        };
        let Aws {
            identities,
            cmk_arn,
            kms,
            table,
        } = aws;
        let tls = self.authority.server(&self.data, name, &[])?;
        // The signer's enclave does not use the table.
        let mut egress = format!("kms.{REGION}.amazonaws.com:443={kms}");
        if service == Service::KeyGenerator {
            egress.push_str(&format!(",dynamodb.{REGION}.amazonaws.com:443={table}"));
        }
        let mut pod = self
            .logging(pod)
            .variable("CLOISTER_LISTEN", listen(Port::pod))
            .variable("CLOISTER_HEALTH_LISTEN", listen(Port::pod_health))
            .variable("CLOISTER_ADDRESS_FILE", self.address_file(name))
            .variable("CLOISTER_TLS_CERT", tls.certificate)
            .variable("CLOISTER_TLS_KEY", tls.key)
            .variable(
                "CLOISTER_FRONT_DOOR_KEY_FILE",
                self.data.path(FRONT_DOOR_KEY_FILE),
            )
            .variable("CLOISTER_CMK_ARN", cmk_arn)
            .variable("CLOISTER_TABLE_ARN", table_arn())
            .variable("CLOISTER_EGRESS", egress)
            .variable("CLOISTER_AWS_CA_FILE", self.data.path("pki/ca.pem"))
            .variable("AWS_REGION", REGION)
            .variable("AWS_EC2_METADATA_DISABLED", "true")
            .variable("AWS_ENDPOINT_URL_DYNAMODB", format!("https://{table}"));
        if let Some(endpoint) = &self.credentials {
            let url = endpoint.url(service);
            return Ok(pod.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", url));
        }
        for (variable, value) in identities.of(service).variables() {
            pod = pod.variable(variable, value);
        }
        Ok(pod)
    }

    fn emulating_pod(
        &self,
        name: &str,
        service: Service,
        enclave: &str,
        image: &Image,
    ) -> anyhow::Result<Program> {
        Ok(Program::new(name, binary("cloister-local-pod")?)
            .option("machine-name", enclave)
            .option("machine-sockets", self.sockets.path())
            .option("machine-logs", self.data.logs())
            .option(
                "machine-clock-ahead",
                image.emulation.clock_ahead(service).to_string(),
            )
            .argument(service.name())
            .variable("CLOISTER_ENCLAVE_IMAGE", image.images.image(service))
            .variable(
                "CLOISTER_ENCLAVE_MEASUREMENTS",
                image.images.measurements_file(),
            )
            .variable("CLOISTER_ENCLAVE_CPUS", CPUS)
            .variable(
                "CLOISTER_ENCLAVE_MEMORY_MIB",
                image.emulation.memory_mib.to_string(),
            )
            .variable("CLOISTER_METRICS_NODE", "localhost")
            .variable("CLOISTER_METRICS_DEPLOYMENT", service.name())
            .variable("CLOISTER_METRICS_POD", name))
    }

    pub(super) fn gateway(
        &self,
        signer: SocketAddr,
        key_generator: SocketAddr,
    ) -> anyhow::Result<Program> {
        let name = Part::Gateway.as_str();
        let function_variable = |name: &str, value: &OsStr| {
            let mut variable = OsString::from(format!("{name}="));
            variable.push(value);
            variable
        };
        Ok(self
            .logging(Program::new(name, binary("cloister-local-gateway")?))
            .option("listen", self.ports.address(Port::Gateway).to_string())
            .option("address-file", self.address_file(name))
            .option("callers", self.data.path("callers.json"))
            .option("region", REGION)
            .option("account", ACCOUNT)
            .option(
                "function",
                self.front_door
                    .clone()
                    .map_or_else(|| binary(FUNCTION), Ok)?,
            )
            .option("workers", WORKERS)
            // From the gateway's environment: everybody may read arguments.
            .option("function-env", "CLOISTER_POD_KEY")
            .variable("CLOISTER_POD_KEY", self.front_door_key.expose())
            .option(
                "function-env",
                format!("CLOISTER_SIGNER_URL=https://{signer}"),
            )
            .option(
                "function-env",
                format!("CLOISTER_KEY_GENERATOR_URL=https://{key_generator}"),
            )
            .option(
                "function-env",
                function_variable(
                    "CLOISTER_POD_CA_FILE",
                    self.data.path("pki/ca.pem").as_os_str(),
                ),
            ))
    }
}

/// The enclave behind a pod.
pub(super) enum Enclave<'a> {
    /// The socket of a process.
    Process(PathBuf),
    /// An image, and the enclave's name.
    Image(&'a str, &'a Image),
}

/// Makes a program listen on the addresses that it had before.
pub(super) fn pin(program: &mut Program, addresses: &Addresses) {
    let main = addresses.http.or(addresses.https);
    for (option, value) in [
        ("--listen", main.map(|address| address.to_string())),
        (
            "--port",
            addresses.http.map(|address| address.port().to_string()),
        ),
    ] {
        let arguments = &mut program.arguments;
        let given = arguments.iter().position(|argument| argument == option);
        if let (Some(at), Some(value)) = (given, value) {
            arguments[at + 1] = value.into();
        }
    }
    for (variable, address) in [
        ("CLOISTER_LISTEN", main),
        ("CLOISTER_HEALTH_LISTEN", addresses.health),
    ] {
        let given = program
            .environment
            .iter_mut()
            .find(|(name, _)| name == variable);
        if let (Some((_, value)), Some(address)) = (given, address) {
            *value = address.to_string().into();
        }
    }
}

fn pod_program(service: Service) -> &'static str {
    match service {
        Service::Signer => "signer-pod",
        Service::KeyGenerator => "key-generator-pod",
    }
}

fn with_prefix(prefix: &str, path: &Path) -> OsString {
    let mut address = OsString::from(prefix);
    address.push(path);
    address
}

const ANY_PORT: &str = "127.0.0.1:0";
/// The chain id of the Ethereum node.
pub(crate) const CHAIN_ID: &str = "1337";
/// Name of the function and of its program.
pub(crate) const FUNCTION: &str = "front-door";
/// CPUs of an emulated enclave.
const CPUS: &str = "1";
/// Front doors that run at the same time, as on Lambda under light load.
const WORKERS: &str = "2";
