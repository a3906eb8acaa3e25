//! The whole stack: started, made ready, and stopped with this value.

mod enclaves;
mod programs;
mod starting;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use cloister_key_policy::{Measurements, Pcr0};
use cloister_nsm_software::Pki;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::administrator;
use crate::chain::Chain;
use crate::child::{Program, Running};
use crate::data_dir::DataDir;
use crate::emulator::Images;
use crate::endpoint;
use crate::identity::{Identities, REGION};
use crate::packages::Packages;
use crate::part::Part;
use crate::pki::Authority;
use crate::progress::Progress;
use crate::ready::{self, Addresses};
use crate::service::Service;
use enclaves::Measured;
pub use enclaves::{Emulation, Enclaves};
use programs::Enclave;
use starting::{Starting, connect};

/// What kind of stack is wanted.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything that survives a restart lies. One stack at a time may use it.
    pub data_dir: PathBuf,
    /// Whether to run an Ethereum node as well.
    pub chain: bool,
    /// What the stack's programs log, as a `RUST_LOG` filter, where they let that be chosen; `None`
    /// for their defaults.
    pub log: Option<String>,
    /// What the enclaves are.
    pub enclaves: Enclaves,
    /// The front door to run, such as a Lambda package's; `None` for the one that was built beside
    /// this program.
    pub front_door: Option<PathBuf>,
}

/// A stack that runs. Every part is a process of its own, on free loopback ports and private unix
/// sockets; all of them stop when this is dropped.
#[derive(Debug)]
pub struct Stack {
    parts: Parts,
    site: Site,
    identities: Identities,
    nsm: Pki,
    measured: Measured,
    cmk_arn: String,
    chain: Option<Chain>,
}

/// The files of a stack.
#[derive(Debug)]
struct Site {
    data: DataDir,
    /// Sockets and address files: short paths, because a unix socket's has at most 108 bytes.
    /// Removed at the end.
    short: TempDir,
    packages: Packages,
    authority: Authority,
    log: Option<String>,
    front_door: Option<PathBuf>,
}

impl Site {
    fn socket(&self, name: &str) -> PathBuf {
        self.short.path().join(format!("{name}.sock"))
    }

    fn address_file(&self, name: &str) -> PathBuf {
        self.short.path().join(format!("{name}.json"))
    }
}

/// What a pod and its enclave meet of AWS.
struct Aws<'a> {
    identities: &'a Identities,
    cmk_arn: &'a str,
    kms: SocketAddr,
    table: SocketAddr,
}

/// In the order in which they were started.
#[derive(Debug, Default)]
struct Parts(Vec<Started>);

impl Drop for Parts {
    fn drop(&mut self) {
        // From the last to the first, so that nobody loses what it depends on.
        while self.0.pop().is_some() {}
    }
}

#[derive(Debug)]
struct Started {
    part: Part,
    program: Program,
    /// `None` while a test has it stopped.
    running: Option<Running>,
    addresses: Option<Addresses>,
}

impl Stack {
    /// Installs what is missing, starts every part and waits until all of them answer.
    ///
    /// # Errors
    /// Something cannot be installed, or a part fails or is not ready in time; the error names it,
    /// its log and the end of that.
    pub async fn start(options: Options, progress: &Progress) -> anyhow::Result<Self> {
        // Fails only when a provider is installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let data = DataDir::open(&options.data_dir)?;
        data.remove(endpoint::FILE)?;
        let packages = tokio::task::block_in_place(Packages::install)?;
        progress.step("starting the stack");
        clear_logs(&data.logs())?;
        let authority = Authority::load(&data)?;
        let short = tempfile::Builder::new()
            .prefix("cloister-")
            .tempdir()
            .context("cannot make a temporary directory")?;
        let Options {
            log, front_door, ..
        } = options;
        let site = Site {
            data,
            short,
            packages,
            authority,
            log,
            front_door,
        };
        let identities = Identities::load(&site.data)?;
        site.data
            .write("principals.json", identities.principals())?;
        site.data.write("callers.json", identities.callers())?;
        let nsm = nsm(&site.data)?;

        let measured = tokio::task::block_in_place(|| Measured::new(options.enclaves, &site))?;

        let mut starting = Starting {
            parts: Parts::default(),
            site,
            deadline: Instant::now() + ready::PATIENCE,
        };
        starting.start(Part::Dynalite, starting.site.dynalite())?;
        starting.start(Part::Kms, starting.site.kms(&measured)?)?;
        if options.chain {
            starting.start(Part::Anvil, starting.site.anvil())?;
        }
        if let Measured::Processes(processes) = &measured {
            for service in [Service::Signer, Service::KeyGenerator] {
                starting.start(
                    service.enclave(),
                    starting.site.enclave(service, processes)?,
                )?;
            }
        }

        starting.wait_for_socket(Part::Dynalite).await?;
        starting.start(Part::Table, starting.site.table()?)?;
        let kms = starting
            .wait_for_address(Part::Kms)
            .await?
            .https
            .context("the KMS has no address")?;
        let table = starting
            .wait_for_address(Part::Table)
            .await?
            .https
            .context("the table has no address")?;

        let root = starting.site.authority.certificate();
        let administrator = &identities.administrator;
        administrator::ensure_table(&administrator::dynamodb(
            &format!("https://{table}"),
            administrator,
            root,
        )?)
        .await?;
        let client = administrator::kms(&format!("https://{kms}"), administrator, root)?;
        let cmk_arn =
            administrator::ensure_cmk(&client, &starting.site.data, measured.measurements())
                .await?;

        let aws = Aws {
            identities: &identities,
            cmk_arn: &cmk_arn,
            kms,
            table,
        };
        for service in [Service::KeyGenerator, Service::Signer] {
            let enclave = match &measured {
                Measured::Processes(_) => {
                    Enclave::Process(starting.site.socket(service.enclave().as_str()))
                }
                Measured::Images(image) => Enclave::Image(service.enclave().as_str(), image),
            };
            starting.start(
                service.pod(),
                starting
                    .site
                    .pod(service.pod().as_str(), service, &enclave, &aws)?,
            )?;
        }
        let signer = starting
            .wait_for_address(Part::SignerPod)
            .await?
            .https
            .context("the signer has no address")?;
        let generator = starting
            .wait_for_address(Part::KeyGeneratorPod)
            .await?
            .https
            .context("the key generator has no address")?;
        starting.start(Part::Gateway, starting.site.gateway(signer, generator)?)?;
        starting.wait_for_address(Part::Gateway).await?;
        let chain = if options.chain {
            Some(starting.wait_for_chain().await?)
        } else {
            None
        };
        for service in [Service::KeyGenerator, Service::Signer] {
            starting.wait_for_pod(service.pod()).await?;
        }

        let Starting { parts, site, .. } = starting;
        let mut stack = Self {
            parts,
            site,
            identities,
            nsm,
            measured,
            cmk_arn,
            chain,
        };
        stack.wait_for_front_door().await?;
        progress.finish();
        Ok(stack)
    }

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

    /// Everybody's credentials.
    pub fn identities(&self) -> &Identities {
        &self.identities
    }

    /// The Ethereum node, if there is one.
    pub fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }

    /// What was installed from npm.
    pub fn packages(&self) -> &Packages {
        &self.site.packages
    }

    /// The data directory.
    pub fn data(&self) -> &DataDir {
        &self.site.data
    }

    /// The root certificate of every TLS endpoint of the stack, PEM.
    pub fn root_certificate(&self) -> &str {
        self.site.authority.certificate()
    }

    /// The PKI that signs the enclaves' attestation documents.
    pub fn nsm(&self) -> &Pki {
        &self.nsm
    }

    /// What the enclaves measure as.
    pub fn measurements(&self) -> &Measurements {
        self.measured.measurements()
    }

    /// The full ARN of the CMK.
    pub fn cmk_arn(&self) -> &str {
        &self.cmk_arn
    }

    /// Replaces the CMK's policy, as an update does, with one that admits `measurements`; the open
    /// form.
    ///
    /// # Errors
    /// When KMS does not take it.
    pub async fn admit(&self, measurements: &Measurements) -> anyhow::Result<()> {
        let client = self.kms(&self.identities.administrator)?;
        administrator::ensure_cmk(&client, &self.site.data, measurements)
            .await
            .map(drop)
    }

    /// Where a part listens.
    pub fn address(&self, part: Part) -> Option<&Addresses> {
        self.parts
            .0
            .iter()
            .find(|started| started.part == part)?
            .addresses
            .as_ref()
    }

    /// Where the pods of a service listen with HTTPS.
    pub fn pod_address(&self, service: Service) -> SocketAddr {
        let address = self
            .address(service.pod())
            .and_then(|addresses| addresses.https);
        address.expect("the stack is not ready before the pods listen")
    }

    /// A client of the KMS with the credentials of `identity`, such as the administrator's.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn kms(&self, identity: &crate::identity::Identity) -> anyhow::Result<aws_sdk_kms::Client> {
        administrator::kms(&self.https(Part::Kms)?, identity, self.root_certificate())
    }

    /// A client of the DynamoDB with the credentials of `identity`, such as the administrator's.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn dynamodb(
        &self,
        identity: &crate::identity::Identity,
    ) -> anyhow::Result<aws_sdk_dynamodb::Client> {
        administrator::dynamodb(&self.https(Part::Table)?, identity, self.root_certificate())
    }

    /// The base URL of a part that speaks HTTPS, for its `/_local/faults`.
    ///
    /// # Errors
    /// When the part does not.
    pub fn https(&self, part: Part) -> anyhow::Result<String> {
        let address = self.address(part).and_then(|addresses| addresses.https);
        Ok(format!(
            "https://{}",
            address.with_context(|| format!("{part} has no HTTPS address"))?
        ))
    }

    /// An error when a part has ended by itself.
    ///
    /// # Errors
    /// Names the part and shows the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for running in self
            .parts
            .0
            .iter_mut()
            .filter_map(|started| started.running.as_mut())
        {
            if running.ended().is_some() {
                return Err(running.failure("it ended by itself"));
            }
        }
        Ok(())
    }

    /// Stops a part, as a test of its absence needs; [`Self::resume`] starts it again.
    ///
    /// # Errors
    /// When the stack has no such part.
    pub fn stop(&mut self, part: Part) -> anyhow::Result<()> {
        self.started(part)?.running = None;
        Ok(())
    }

    /// Starts a stopped part again, where it listened before, and waits until it listens.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn resume(&mut self, part: Part) -> anyhow::Result<()> {
        let logs = self.site.data.logs();
        let file = self.site.address_file(part.as_str());
        let socket = self.site.socket(part.as_str());
        let started = self.started(part)?;
        ensure!(started.running.is_none(), "{part} runs");
        // Left behind by the process that was stopped.
        let _ = fs::remove_file(&file);
        let _ = fs::remove_file(&socket);
        if let Some(addresses) = &started.addresses {
            programs::pin(&mut started.program, addresses);
        }
        let running = started.running.insert(started.program.start(&logs)?);
        let deadline = Instant::now() + ready::PATIENCE;
        if started.addresses.is_some() {
            ready::addresses(running, &file, deadline).await?;
        } else if part != Part::Anvil {
            ready::until(running, deadline, async |_| connect(&socket).await).await?;
        }
        Ok(())
    }

    /// Starts one more signer, pod and enclave, that measures differently, beside the stack's own:
    /// a process that says so, or an image with one byte of its settings changed.
    ///
    /// # Errors
    /// As [`Self::start`]; that it is not ready is no error here.
    pub async fn start_another_signer(&self) -> anyhow::Result<AnotherSigner> {
        match &self.measured {
            Measured::Processes(processes) => {
                let deadline = Instant::now() + ready::PATIENCE;
                let socket = self.site.socket(ANOTHER_ENCLAVE);
                let other = Pcr0::try_from(OTHER).context("a measurement of all zeros")?;
                let enclave =
                    self.site
                        .enclave_as(ANOTHER_ENCLAVE, Service::Signer, processes, &other)?;
                let mut enclave = enclave.start(&self.site.data.logs())?;
                ready::until(&mut enclave, deadline, async |_| connect(&socket).await).await?;
                self.start_another_pod(&Enclave::Process(socket), Some(enclave))
                    .await
            }
            Measured::Images(image) => {
                let altered = tokio::task::block_in_place(|| image.altered(&self.site))?;
                self.start_signer_of(altered).await
            }
        }
    }

    /// Starts one more signer of other images than the stack's own, which has to be emulated.
    ///
    /// # Errors
    /// As [`Self::start`]; that it is not ready is no error here.
    pub async fn start_signer_of(&self, images: Images) -> anyhow::Result<AnotherSigner> {
        let Measured::Images(image) = &self.measured else {
            bail!("the enclaves of this stack are no images")
        };
        let image = image.with(images)?;
        self.start_another_pod(&Enclave::Image(ANOTHER_ENCLAVE, &image), None)
            .await
    }

    async fn start_another_pod(
        &self,
        reached: &Enclave<'_>,
        enclave: Option<Running>,
    ) -> anyhow::Result<AnotherSigner> {
        let https = |part| self.address(part).and_then(|addresses| addresses.https);
        let aws = Aws {
            identities: &self.identities,
            cmk_arn: &self.cmk_arn,
            kms: https(Part::Kms).context("the KMS has no address")?,
            table: https(Part::Table).context("the table has no address")?,
        };
        let file = self.site.address_file(ANOTHER_POD);
        let _ = fs::remove_file(&file);
        let mut pod = self
            .site
            .pod(ANOTHER_POD, Service::Signer, reached, &aws)?
            .start(&self.site.data.logs())?;
        let addresses = ready::addresses(&mut pod, &file, Instant::now() + ready::PATIENCE).await?;
        let health = addresses.health.context("the pod has no health port")?;
        Ok(AnotherSigner {
            pod,
            enclave,
            health,
        })
    }

    /// The images of the enclaves, if they are emulated.
    pub fn images(&self) -> Option<&Images> {
        match &self.measured {
            Measured::Processes(_) => None,
            Measured::Images(image) => Some(&image.images),
        }
    }

    /// Sends a signal to the emulator of an enclave.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn signal_emulator(&self, service: Service, signal: Signal) -> anyhow::Result<()> {
        let file = self
            .site
            .short
            .path()
            .join(format!("{}.pid", service.enclave()));
        let pid =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let pid = pid
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .context("not a process id")?;
        kill_process(pid, signal).context("cannot send a signal")
    }

    fn started(&mut self, part: Part) -> anyhow::Result<&mut Started> {
        let started = self.parts.0.iter_mut().find(|started| started.part == part);
        started.with_context(|| format!("this stack has no {part}"))
    }

    /// The gateway and a front door behind it answer an authenticated request.
    async fn wait_for_front_door(&mut self) -> anyhow::Result<()> {
        let client = self.client()?;
        let deadline = Instant::now() + ready::PATIENCE;
        let started = self.started(Part::Gateway)?;
        let running = started
            .running
            .as_mut()
            .context("the gateway does not run")?;
        ready::until(running, deadline, async |_| {
            match client.post("/", "{}").await {
                // The front door's own refusal: the whole way to it works.
                Ok(response) if response.status == 400 => Ok(()),
                Ok(response) => Err(format!("it answers {}", response.status)),
                Err(error) => Err(format!("it does not answer: {error}")),
            }
        })
        .await
    }

    /// A client of the API with the caller's credentials.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn client(&self) -> anyhow::Result<cloister_client::Client> {
        let caller = &self.identities.caller;
        let token = Some(&caller.session_token[..]);
        let credentials = cloister_client::Credentials::new(
            &caller.access_key_id,
            &caller.secret_access_key,
            token,
        );
        cloister_client::Client::new(&self.endpoint(), REGION, credentials, None)
            .context("cannot make an API client")
    }
}

/// A signer beside the stack's own.
#[derive(Debug)]
pub struct AnotherSigner {
    /// Its pod. Declared first: it stops before the enclave behind it.
    pub pod: Running,
    /// Its enclave, if that is a process of its own.
    pub enclave: Option<Running>,
    /// The pod's plain port.
    pub health: SocketAddr,
}

impl AnotherSigner {
    /// Whose log holds what the enclave says.
    pub fn speaker(&mut self) -> &mut Running {
        self.enclave.as_mut().unwrap_or(&mut self.pod)
    }
}

/// What a pod's /readyz says: the status, and the body.
///
/// # Errors
/// When the pod does not answer.
pub async fn readiness(health: SocketAddr) -> anyhow::Result<(u16, String)> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .context("cannot make an HTTP client")?;
    let response = client
        .get(format!("http://{health}/readyz"))
        .send()
        .await
        .context("no answer")?;
    let status = response.status().as_u16();
    Ok((status, response.text().await.context("half an answer")?))
}

/// The PKI of the software NSMs; made the first time.
fn nsm(data: &DataDir) -> anyhow::Result<Pki> {
    let pki = match data.read("pki/nsm.pem")? {
        Some(pem) => Pki::from_pem(&pem)
            .with_context(|| format!("{} is damaged", data.path("pki/nsm.pem").display()))?,
        None => {
            let pki = Pki::generate().context("cannot make the NSM's PKI")?;
            data.write("pki/nsm.pem", pki.to_pem())?;
            pki
        }
    };
    data.write("pki/nsm-root.der", pki.root_der())?;
    Ok(pki)
}

const ANOTHER_ENCLAVE: &str = "another-signer-enclave";
const ANOTHER_POD: &str = "another-signer-pod";
/// What [`Stack::start_another_signer`]'s process measures as, according to itself.
pub const OTHER: [u8; 48] = [0x11; 48];

fn clear_logs(directory: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory).context("cannot read the directory of logs")? {
        let path = entry.context("cannot read the directory of logs")?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
