//! Processes that end, are stopped by a test, or are started in addition.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use cloister_contract::{Service, ports};
use cloister_key_policy::Pcr0;
use cloister_protocol::SessionValue;
use cloister_transport::Address;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::enclaves::Measured;
use super::programs::{self, Enclave};
use super::{Aws, SESSION_FILE, Stack};
use crate::chain;
use crate::child::Running;
use crate::emulator::{Images, Machine};
use crate::part::Part;
use crate::ready;

impl Stack {
    /// Starts every process again that ends by itself; `notify` gets a line for each. Returns only
    /// on failure.
    ///
    /// # Errors
    /// If a process cannot be started again, or ends too often.
    pub async fn supervise(&mut self, mut notify: impl FnMut(&str)) -> anyhow::Result<Infallible> {
        let mut children =
            signal(SignalKind::child()).context("failed to watch for ended processes")?;
        let mut restarts: Vec<(Part, Instant)> = Vec::new();
        loop {
            while let Some((part, failure)) = self.ended() {
                restarts.retain(|(_, at)| at.elapsed() < RESTART_WINDOW);
                restarts.push((part, Instant::now()));
                if restarts.iter().filter(|(other, _)| *other == part).count() > MAX_RESTARTS {
                    return Err(failure.context(format!("{part} ends again and again")));
                }
                notify(&format!("{part} ended; starting it again"));
                self.stop(part)?;
                self.resume(part).await?;
                notify(&format!("{part} is back"));
            }
            // Signals of several children may arrive as one: ask for all of them.
            tokio::select! {
                _ = children.recv() => {}
                () = sleep(CHECK_INTERVAL) => {}
            }
        }
    }

    /// A process that ended by itself, and an error that shows the end of its log.
    fn ended(&mut self) -> Option<(Part, anyhow::Error)> {
        self.processes.0.iter_mut().find_map(|process| {
            let running = process.running.as_mut()?;
            running.ended()?;
            Some((process.part, running.failure("it ended by itself")))
        })
    }

    /// The process id of a part.
    ///
    /// # Errors
    /// If it does not run.
    pub fn process_id(&self, part: Part) -> anyhow::Result<u32> {
        let process = self.processes.get(part);
        let running = process.and_then(|process| process.running.as_ref());
        Ok(running
            .with_context(|| format!("{part} does not run"))?
            .id())
    }

    /// Stops a part; [`Self::resume`] starts it again.
    ///
    /// # Errors
    /// If the stack has no such part.
    pub fn stop(&mut self, part: Part) -> anyhow::Result<()> {
        self.processes.get_mut(part)?.running = None;
        Ok(())
    }

    /// Starts a stopped part again, on the address that it had, and waits until it listens.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn resume(&mut self, part: Part) -> anyhow::Result<()> {
        let logs = self.location.data.logs();
        let file = self.location.address_file(part.as_str());
        let socket = self.location.socket(part.as_str());
        if part == Part::Anvil {
            chain::set_damaged_state_aside(&self.location.data)?;
        }
        let process = self.processes.get_mut(part)?;
        ensure!(process.running.is_none(), "{part} runs");
        // Left behind by the process that was stopped.
        let _ = fs::remove_file(&file);
        let _ = fs::remove_file(&socket);
        if let Some(addresses) = &process.addresses {
            programs::pin(&mut process.program, addresses);
        }
        let running = process.running.insert(process.program.start(&logs)?);
        let deadline = Instant::now() + ready::TIMEOUT;
        match (part, &process.addresses, &self.chain) {
            (Part::Anvil, _, Some(chain)) => {
                ready::until(running, deadline, async |_| chain.answers().await).await
            }
            (_, Some(_), _) => ready::addresses(running, &file, deadline).await.map(drop),
            _ => ready::until(running, deadline, async |_| ready::connect(&socket).await).await,
        }
    }

    /// Starts one more signer, pod and enclave, that measures differently: a process with another
    /// PCR0, or an image with one byte of its settings changed.
    ///
    /// # Errors
    /// As [`Self::start`]; its readiness is not waited for.
    pub async fn start_another_signer(&self) -> anyhow::Result<AnotherSigner> {
        match &self.measured {
            Measured::Processes(processes) => {
                let deadline = Instant::now() + ready::TIMEOUT;
                let socket = self.location.socket(ANOTHER_ENCLAVE);
                let other = Pcr0::try_from(OTHER).context("a measurement of all zeros")?;
                let enclave = self.location.enclave_as(
                    ANOTHER_ENCLAVE,
                    Service::Signer,
                    processes,
                    &other,
                )?;
                let mut enclave = enclave.start(&self.location.data.logs())?;
                ready::until(&mut enclave, deadline, async |_| {
                    ready::connect(&socket).await
                })
                .await?;
                self.start_another_pod(&Enclave::Process(socket), Some(enclave))
                    .await
            }
            Measured::Images(image) => {
                let altered = tokio::task::block_in_place(|| image.altered(&self.location))?;
                self.start_signer_of(altered).await
            }
        }
    }

    /// Starts one more signer of other images than the stack's own, which must be emulated.
    ///
    /// # Errors
    /// As [`Self::start`]; its readiness is not waited for.
    pub async fn start_signer_of(&self, images: Images) -> anyhow::Result<AnotherSigner> {
        let Measured::Images(image) = &self.measured else {
            bail!("the enclaves of this stack are not images")
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
        let file = self.location.address_file(ANOTHER_POD);
        let _ = fs::remove_file(&file);
        let mut pod = self
            .location
            .pod(ANOTHER_POD, Service::Signer, None, reached, &aws)?
            .start(&self.location.data.logs())?;
        let addresses = ready::addresses(&mut pod, &file, Instant::now() + ready::TIMEOUT).await?;
        let health = addresses.health.context("the pod has no health port")?;
        Ok(AnotherSigner {
            pod,
            enclave,
            health,
        })
    }

    /// Sends a signal to the emulator of an enclave.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal_emulator(&self, service: Service, signal: Signal) -> anyhow::Result<()> {
        let pid = self.emulator_process(service)?;
        kill_process(pid, signal).context("failed to send a signal")
    }

    /// The emulators that run an enclave: one, but while it is replaced.
    pub fn emulators(&self, service: Service) -> Vec<Pid> {
        let machine = Machine {
            name: Part::enclave(service).to_string(),
            sockets: self.location.sockets.path().to_owned(),
            logs: self.location.data.logs(),
            clock_ahead: 0,
        };
        machine.emulators()
    }

    /// The process that holds the memory of an enclave: the enclave itself, or its emulator.
    ///
    /// # Errors
    /// If it does not run.
    pub fn enclave_process(&self, service: Service) -> anyhow::Result<Pid> {
        if self.images().is_some() {
            return self.emulator_process(service);
        }
        let id = self.process_id(Part::enclave(service))?;
        i32::try_from(id)
            .ok()
            .and_then(Pid::from_raw)
            .context("not a process id")
    }

    /// The address on which an enclave takes requests.
    pub fn enclave_address(&self, service: Service) -> Address {
        let name = Part::enclave(service);
        if self.images().is_some() {
            let path = self.location.sockets.path().join(format!("{name}.vsock"));
            let port = ports::REQUESTS;
            return Address::Hybrid { path, port };
        }
        Address::Unix(self.location.socket(name.as_str()))
    }

    /// The session value that an enclave is bound to.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub fn enclave_session(&self, service: Service) -> anyhow::Result<SessionValue> {
        let file = if self.images().is_some() {
            let name = format!("{}.session", Part::enclave(service));
            self.location.sockets.path().join(name)
        } else {
            self.location.data.path(SESSION_FILE)
        };
        let text = fs::read_to_string(&file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        SessionValue::from_hex(&text).with_context(|| format!("in {}", file.display()))
    }

    fn emulator_process(&self, service: Service) -> anyhow::Result<Pid> {
        let directory = self.location.sockets.path();
        let file = directory.join(format!("{}.pid", Part::enclave(service)));
        let pid = fs::read_to_string(&file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        pid.trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .context("not a process id")
    }
}

/// A signer in addition to the stack's own.
#[derive(Debug)]
pub struct AnotherSigner {
    /// Its pod. Declared first: it stops before its enclave.
    pub pod: Running,
    /// Its enclave, if that is a separate process.
    pub enclave: Option<Running>,
    /// The pod's plain port.
    pub health: SocketAddr,
}

impl AnotherSigner {
    /// The process whose log holds the enclave's lines.
    pub fn speaker(&mut self) -> &mut Running {
        self.enclave.as_mut().unwrap_or(&mut self.pod)
    }
}

/// PCR0 of the process that [`Stack::start_another_signer`] starts.
pub const OTHER: [u8; 48] = [0x11; 48];

const ANOTHER_ENCLAVE: &str = "another-signer-enclave";
const ANOTHER_POD: &str = "another-signer-pod";
/// A safety net: SIGCHLD reports an end at once.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// A part that ends more often than this within the window cannot be kept running.
const MAX_RESTARTS: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(60);
