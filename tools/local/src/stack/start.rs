//! Starts the stack: parts in the order of their dependencies, each waited for.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use cloister_contract::Service;
use cloister_nsm_software::Pki;
use cloister_protocol::secret::SESSION_LEN;
use serde_json::json;

use super::credentials::CredentialsEndpoint;
use super::enclaves::Measured;
use super::ports::Ports;
use super::programs::Enclave;
use super::{Aws, Location, Options, Process, Processes, SESSION_FILE, Stack, sockets};
use crate::administrator;
use crate::chain::{self, Chain};
use crate::child::{Program, Running};
use crate::data_dir::{DataDir, ENDPOINT_FILE};
use crate::identity::{self, Identities};
use crate::packages::Packages;
use crate::part::Part;
use crate::pki::Authority;
use crate::progress::Progress;
use crate::ready::{self, Addresses};

impl Stack {
    /// Installs what is missing, starts every part and waits until all of them answer.
    ///
    /// # Errors
    /// If something cannot be installed, or a part fails or is not ready in time; the error names
    /// it, its log and the end of that.
    pub async fn start(options: Options, progress: &Progress) -> anyhow::Result<Self> {
        // Fails only when a provider is installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (enclaves, with_chain) = (options.enclaves.clone(), options.chain);
        let lifetime = options.credentials_lifetime;
        let mut location = Location::prepare(options, progress)?;
        let identities = Identities::load(&location.data)?;
        let principals = json!({ "principals": identities.principals() });
        let principals = location
            .data
            .write("principals.json", principals.to_string())?;
        if let Some(lifetime) = lifetime {
            let endpoint = CredentialsEndpoint::start(&identities, principals, lifetime).await?;
            location.credentials = Some(endpoint);
        }
        location.data.write("callers.json", identities.callers())?;
        let nsm = nsm(&location.data)?;
        if with_chain {
            chain::set_damaged_state_aside(&location.data)?;
        }
        let measured = tokio::task::block_in_place(|| Measured::new(enclaves, &location))?;

        let mut starting = Starting {
            processes: Processes::default(),
            location,
            deadline: Instant::now() + ready::TIMEOUT,
        };
        starting.start(Part::Dynalite, starting.location.dynalite())?;
        starting.start(Part::Kms, starting.location.kms(&measured)?)?;
        if with_chain {
            starting.start(Part::Anvil, starting.location.anvil())?;
        }
        if let Measured::Processes(processes) = &measured {
            for service in Service::ALL {
                let enclave = starting.location.enclave(service, processes)?;
                starting.start(Part::enclave(service), enclave)?;
            }
        }

        starting.wait_for_socket(Part::Dynalite).await?;
        starting.start(Part::Table, starting.location.table()?)?;
        let kms = starting.wait_for_address(Part::Kms).await?;
        let table = starting.wait_for_address(Part::Table).await?;
        let kms = kms.https.context("the KMS has no address")?;
        let table = table.https.context("the table has no address")?;

        let root = starting.location.authority.certificate();
        let administrator = &identities.administrator;
        let client = administrator::dynamodb(&format!("https://{table}"), administrator, root)?;
        administrator::ensure_table(&client).await?;
        let client = administrator::kms(&format!("https://{kms}"), administrator, root)?;
        let data = &starting.location.data;
        let cmk_arn = administrator::ensure_cmk(&client, data, measured.measurements()).await?;

        let aws = Aws {
            identities: &identities,
            cmk_arn: &cmk_arn,
            kms,
            table,
        };
        for service in Service::ALL {
            let name = Part::enclave(service).as_str();
            let enclave = match &measured {
                Measured::Processes(_) => Enclave::Process(starting.location.socket(name)),
                Measured::Images(image) => Enclave::Image(name, image),
            };
            let part = Part::pod(service);
            let ports = Some(starting.location.ports);
            let pod = starting
                .location
                .pod(part.as_str(), service, ports, &enclave, &aws)?;
            starting.start(part, pod)?;
        }
        let signer = starting.wait_for_address(Part::SignerPod).await?;
        let generator = starting.wait_for_address(Part::KeyGeneratorPod).await?;
        let gateway = starting.location.gateway(
            signer.https.context("the signer has no address")?,
            generator
                .https
                .context("the key generator has no address")?,
        )?;
        starting.start(Part::Gateway, gateway)?;
        starting.wait_for_address(Part::Gateway).await?;
        let chain = if with_chain {
            Some(starting.wait_for_chain().await?)
        } else {
            None
        };
        for service in Service::ALL {
            starting.wait_for_pod(Part::pod(service)).await?;
        }

        let Starting {
            processes,
            location,
            deadline,
        } = starting;
        let mut stack = Self {
            processes,
            location,
            identities,
            nsm,
            measured,
            cmk_arn,
            chain,
        };
        stack.wait_for_front_door(deadline).await?;
        progress.finish();
        Ok(stack)
    }

    /// Waits until the gateway and a front door behind it answer an authenticated request.
    async fn wait_for_front_door(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let client = self.client()?;
        let gateway = self.processes.get_mut(Part::Gateway)?;
        let running = gateway
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
}

impl Location {
    fn prepare(options: Options, progress: &Progress) -> anyhow::Result<Self> {
        let data = DataDir::open(&options.data_dir)?;
        data.remove(ENDPOINT_FILE)?;
        let sockets = sockets::directory()?;
        let packages = tokio::task::block_in_place(Packages::install)?;
        progress.step("starting the stack");
        clear_logs(&data.logs())?;
        let mut session = [0; SESSION_LEN];
        getrandom::fill(&mut session).context("failed to draw a session value")?;
        data.write(SESSION_FILE, const_hex::encode(session))?;
        let authority = Authority::load(&data)?;
        let front_door_key = identity::front_door_key(&data)?;
        Ok(Self {
            data,
            sockets,
            packages,
            authority,
            front_door_key,
            log: options.log,
            front_door: options.front_door,
            ports: Ports::choose(options.port)?,
            credentials: None,
        })
    }
}

/// A stack that is not complete.
struct Starting {
    processes: Processes,
    location: Location,
    deadline: Instant,
}

impl Starting {
    fn start(&mut self, part: Part, program: Program) -> anyhow::Result<()> {
        let running = program.start(&self.location.data.logs())?;
        self.processes.0.push(Process {
            part,
            program,
            running: Some(running),
            addresses: None,
        });
        Ok(())
    }

    fn running(&mut self, part: Part) -> (&mut Running, &mut Option<Addresses>) {
        let process = self.processes.get_mut(part).expect("it was started before");
        (
            process
                .running
                .as_mut()
                .expect("nothing stops it while the stack starts"),
            &mut process.addresses,
        )
    }

    async fn wait_for_address(&mut self, part: Part) -> anyhow::Result<Addresses> {
        let (deadline, file) = (self.deadline, self.location.address_file(part.as_str()));
        let (running, addresses) = self.running(part);
        Ok(addresses
            .insert(ready::addresses(running, &file, deadline).await?)
            .clone())
    }

    async fn wait_for_socket(&mut self, part: Part) -> anyhow::Result<()> {
        let (deadline, socket) = (self.deadline, self.location.socket(part.as_str()));
        let (running, _) = self.running(part);
        ready::until(running, deadline, async |_| ready::connect(&socket).await).await
    }

    async fn wait_for_chain(&mut self) -> anyhow::Result<Chain> {
        let deadline = self.deadline;
        let (running, addresses) = self.running(Part::Anvil);
        let address = ready::until(running, deadline, async |running| {
            let output = running.output().map_err(|error| error.to_string())?;
            let address = output
                .lines()
                .find_map(|line| line.strip_prefix("Listening on "));
            let address = address.ok_or_else(|| "it does not listen".to_owned())?;
            address
                .parse()
                .map_err(|_| format!("it listens on {address}"))
        })
        .await?;
        *addresses = Some(Addresses {
            http: Some(address),
            https: None,
            health: None,
        });
        let chain = Chain::new(format!("http://{address}"))?;
        ready::until(running, deadline, async |_| chain.answers().await).await?;
        Ok(chain)
    }

    async fn wait_for_pod(&mut self, part: Part) -> anyhow::Result<()> {
        let deadline = self.deadline;
        let (running, addresses) = self.running(part);
        let health = addresses
            .as_ref()
            .and_then(|addresses| addresses.health)
            .context("a pod has no health port")?;
        ready::until(running, deadline, async |_| {
            match ready::readiness(health).await {
                Ok((200, _)) => Ok(()),
                Ok((status, body)) => Err(format!("/readyz answers {status} {body}")),
                Err(error) => Err(format!("/readyz: {error:#}")),
            }
        })
        .await
    }
}

/// The PKI of the software NSMs; made the first time.
fn nsm(data: &DataDir) -> anyhow::Result<Pki> {
    let pki = match data.read("pki/nsm.pem")? {
        Some(pem) => Pki::from_pem(&pem)
            .with_context(|| format!("{} is damaged", data.path("pki/nsm.pem").display()))?,
        None => {
            let pki = Pki::generate().context("failed to make the NSM's PKI")?;
            data.write("pki/nsm.pem", pki.to_pem())?;
            pki
        }
    };
    data.write("pki/nsm-root.der", pki.root_der())?;
    Ok(pki)
}

fn clear_logs(directory: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory).context("failed to read the directory of logs")? {
        let path = entry
            .context("failed to read the directory of logs")?
            .path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::remove_file(&path)
                .with_context(|| format!("failed to remove {}", path.display()))?;
        }
    }
    Ok(())
}
