//! The whole stack: every part is a process, stopped when this value is dropped.

mod clients;
mod credentials;
mod enclaves;
mod faults;
mod ports;
mod programs;
mod sockets;
mod start;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use cloister_contract::Service;
use cloister_key_policy::Measurements;
use cloister_nsm_software::Pki;
use cloister_protocol::Redacted;
use tempfile::TempDir;

use crate::chain::Chain;
use crate::child::{Program, Running};
use crate::data_dir::DataDir;
use crate::emulator::Images;
use crate::identity::{Identities, REGION};
use crate::packages::Packages;
use crate::part::Part;
use crate::pki::Authority;
use crate::ready::Addresses;
use credentials::CredentialsEndpoint;
use enclaves::Measured;
use ports::Ports;

pub(crate) use programs::{CHAIN_ID, FUNCTION};

pub use crate::ready::readiness;
pub use enclaves::{Emulation, Enclaves};
pub use faults::{AnotherSigner, OTHER};

/// File of the session value of enclaves that are processes, in hex: it outlives each of them and
/// their pods, which are started again one by one.
const SESSION_FILE: &str = "session";

/// Settings of a stack.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of everything that survives a restart. One stack at a time may use it.
    pub data_dir: PathBuf,
    /// Also run an Ethereum node.
    pub chain: bool,
    /// `RUST_LOG` filter of the stack's programs; `None` for their defaults.
    pub log: Option<String>,
    /// Kind of the enclaves.
    pub enclaves: Enclaves,
    /// The front door to run, such as a Lambda package's; `None` for the one that was built with
    /// this program.
    pub front_door: Option<PathBuf>,
    /// First of the ports to listen on; the next block of ten if one of them is taken. `None` or 0
    /// for any free ports.
    pub port: Option<u16>,
    /// Lifetime of the pods' credentials; `None` for credentials that do not expire.
    pub credentials_lifetime: Option<Duration>,
}

/// A running stack on loopback ports and private unix sockets.
#[derive(Debug)]
pub struct Stack {
    processes: Processes,
    location: Location,
    identities: Identities,
    nsm: Pki,
    measured: Measured,
    cmk_arn: String,
    chain: Option<Chain>,
}

impl Stack {
    /// The URL of the API.
    pub fn endpoint(&self) -> String {
        let address = self
            .address(Part::Gateway)
            .and_then(|addresses| addresses.http);
        format!(
            "http://{}",
            address.expect("the stack is not ready before the gateway listens")
        )
    }

    /// The region that requests are signed for.
    pub fn region(&self) -> &'static str {
        REGION
    }

    /// Credentials of every role.
    pub fn identities(&self) -> &Identities {
        &self.identities
    }

    /// The Ethereum node, if there is one.
    pub fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }

    /// The packages that were installed from npm.
    pub fn packages(&self) -> &Packages {
        &self.location.packages
    }

    /// The data directory.
    pub fn data(&self) -> &DataDir {
        &self.location.data
    }

    /// The root certificate of every TLS endpoint of the stack, PEM.
    pub fn root_certificate(&self) -> &str {
        self.location.authority.certificate()
    }

    /// The key with which the front door authenticates to the pods.
    pub fn front_door_key(&self) -> &Redacted {
        &self.location.front_door_key
    }

    /// The PKI that signs the enclaves' attestation documents.
    pub fn nsm(&self) -> &Pki {
        &self.nsm
    }

    /// The measurements of both enclaves.
    pub fn measurements(&self) -> &Measurements {
        self.measured.measurements()
    }

    /// The images of the enclaves, if they are emulated.
    pub fn images(&self) -> Option<&Images> {
        match &self.measured {
            Measured::Processes(_) => None,
            Measured::Images(image) => Some(&image.images),
        }
    }

    /// The full ARN of the CMK.
    pub fn cmk_arn(&self) -> &str {
        &self.cmk_arn
    }

    /// The addresses on which a part listens.
    pub fn address(&self, part: Part) -> Option<&Addresses> {
        self.processes.get(part)?.addresses.as_ref()
    }

    /// The HTTPS address of a service's pod.
    pub fn pod_address(&self, service: Service) -> SocketAddr {
        let address = self
            .address(Part::pod(service))
            .and_then(|addresses| addresses.https);
        address.expect("the stack is not ready before the pods listen")
    }

    /// The base URL of a part that serves HTTPS.
    ///
    /// # Errors
    /// If the part does not.
    pub fn https(&self, part: Part) -> anyhow::Result<String> {
        let address = self.address(part).and_then(|addresses| addresses.https);
        Ok(format!(
            "https://{}",
            address.with_context(|| format!("{part} has no HTTPS address"))?
        ))
    }
}

/// The files of a stack.
#[derive(Debug)]
struct Location {
    data: DataDir,
    /// Directory of sockets and address files. Removed at the end.
    sockets: TempDir,
    packages: Packages,
    authority: Authority,
    front_door_key: Redacted,
    log: Option<String>,
    front_door: Option<PathBuf>,
    ports: Ports,
    /// Issues the pods' credentials, if those expire.
    credentials: Option<CredentialsEndpoint>,
}

impl Location {
    fn socket(&self, name: &str) -> PathBuf {
        self.sockets.path().join(format!("{name}.sock"))
    }

    fn address_file(&self, name: &str) -> PathBuf {
        self.sockets.path().join(format!("{name}.json"))
    }
}

/// AWS as a pod and its enclave use it.
struct Aws<'a> {
    identities: &'a Identities,
    cmk_arn: &'a str,
    kms: SocketAddr,
    table: SocketAddr,
}

/// All processes, in the order in which they were started.
#[derive(Debug, Default)]
struct Processes(Vec<Process>);

impl Processes {
    fn get(&self, part: Part) -> Option<&Process> {
        self.0.iter().find(|process| process.part == part)
    }

    fn get_mut(&mut self, part: Part) -> anyhow::Result<&mut Process> {
        let process = self.0.iter_mut().find(|process| process.part == part);
        process.with_context(|| format!("this stack has no {part}"))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // From the last to the first, so that no process loses what it depends on.
        while self.0.pop().is_some() {}
    }
}

#[derive(Debug)]
struct Process {
    part: Part,
    program: Program,
    /// `None` while a test has it stopped.
    running: Option<Running>,
    /// Those of its address file; `None` for parts without one.
    addresses: Option<Addresses>,
}
