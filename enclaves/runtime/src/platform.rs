//! What both enclaves stand on: settings, NSM, AWS, and the server that carries requests to them.

use std::fmt;
use std::io;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use cloister_nsm::{Nsm, NsmError};
use cloister_protocol::{Code, Rejection};
use cloister_sealing::Recipient;
use cloister_settings::Settings;
use cloister_transport::{Address, EgressPool, Handler, Listener, Server};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::aws::Aws;
use crate::boot_key::{BootKey, BootKeyError};
use crate::egress::EgressHttpClient;
use crate::entropy::Entropy;
use crate::logging::Logged;
use crate::nsm_queue::{NsmQueue, Priority};

/// What a `main` hands over: everything in which a Nitro enclave and a laptop differ.
pub struct Boot {
    /// Where pods connect.
    pub listen: Address,
    /// The measured settings.
    pub settings: Settings,
    /// The security module.
    pub nsm: Arc<dyn Nsm>,
    /// The private half of the boot key, which init made and locked PCR16 to.
    pub boot_key: Zeroizing<[u8; 32]>,
    /// Ends the enclave once the requests in flight are answered. On Nitro nobody cancels it.
    pub shutdown: CancellationToken,
}

impl fmt::Debug for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Boot")
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// Runs an enclave until it is shut down: `application` makes the handler of its requests.
///
/// # Errors
/// [`BootError`] when it cannot start.
pub async fn run<H: Handler>(
    boot: Boot,
    application: impl FnOnce(Arc<Platform>) -> H,
) -> Result<(), BootError> {
    let egress = EgressPool::new();
    let http = EgressHttpClient::new(egress.clone(), &boot.settings.tls_roots)
        .map_err(BootError::TlsRoot)?;
    let platform = Platform::start(
        boot.settings,
        boot.nsm,
        boot.boot_key,
        SharedHttpClient::new(http),
    )
    .await?;
    let handler = Arc::new(Logged(application(platform)));
    let listener = Listener::bind(&boot.listen)
        .await
        .map_err(BootError::Listen)?;
    tracing::info!(listen = %boot.listen, "listening");
    Server::new(handler, egress)
        .run(listener, boot.shutdown)
        .await;
    Ok(())
}

/// What both enclaves stand on.
pub struct Platform {
    /// The measured settings.
    pub settings: Arc<Settings>,
    /// AWS clients.
    pub aws: Aws,
    /// Randomness for keys.
    pub entropy: Entropy,
    /// Attests to KMS.
    pub(crate) recipient: Arc<Recipient>,
    /// This image, as the NSM reports it; zeros in debug mode.
    pub(crate) pcr0: [u8; 48],
    /// One proof at a time: strangers ask for them.
    boot_prover: Arc<Mutex<BootProver>>,
}

impl Platform {
    /// Begins to make the recipient key, reads what this image is and takes its boot key.
    ///
    /// # Errors
    /// [`BootError`].
    pub async fn start(
        settings: Settings,
        nsm: Arc<dyn Nsm>,
        boot_key: Zeroizing<[u8; 32]>,
        http: SharedHttpClient,
    ) -> Result<Arc<Self>, BootError> {
        let queue = NsmQueue::start(nsm).map_err(BootError::Thread)?;
        let nsm = queue.handle(Priority::Work);
        let recipient = Recipient::start(nsm.clone());
        let measured = nsm.clone();
        let (pcr0, key) = tokio::task::spawn_blocking(move || {
            let pcr0 = measured.describe_pcr(0).map_err(BootError::Nsm)?;
            Ok((
                pcr0,
                BootKey::receive(boot_key.as_ref(), measured.as_ref())
                    .map_err(BootError::BootKey)?,
            ))
        })
        .await
        .map_err(|_| BootError::CutOff)??;
        let settings = Arc::new(settings);
        Ok(Arc::new(Self {
            aws: Aws::new(settings.clone(), http),
            entropy: Entropy::new(nsm),
            recipient,
            pcr0: pcr0.value,
            boot_prover: Arc::new(Mutex::new(BootProver {
                key,
                nsm: queue.handle(Priority::Public),
            })),
            settings,
        }))
    }

    /// Proves which image this is: [`BootProof`](cloister_protocol::message::BootProof) as JSON.
    ///
    /// # Errors
    /// [`Code::InvalidField`] for a nonce that has not 16 to 64 bytes; [`Code::Busy`] while another
    /// proof is being made.
    pub async fn prove_boot(&self, nonce: &[u8]) -> Result<Vec<u8>, Rejection> {
        let busy = |_| Rejection::new(Code::Busy, "another proof is being made");
        let prover = self.boot_prover.clone().try_lock_owned().map_err(busy)?;
        let nonce = nonce.to_vec();
        // The lock goes along: whoever asked may be gone before the NSM has answered.
        let proof =
            tokio::task::spawn_blocking(move || prover.key.prove(&nonce, prover.nsm.as_ref()))
                .await
                .map_err(|_| Rejection::new(Code::Internal, "the enclave is shutting down"))??;
        Ok(serde_json::to_vec(&proof).expect("two strings"))
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Platform")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

struct BootProver {
    key: BootKey,
    nsm: Arc<dyn Nsm>,
}

/// Why an enclave did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// A TLS root of the settings.
    #[error("a TLS root of the measured settings is no certificate")]
    TlsRoot(#[source] rustls::Error),
    /// The thread of the NSM.
    #[error("no thread for the NSM")]
    Thread(#[source] io::Error),
    /// The NSM does not say what this image is.
    #[error("the NSM does not report PCR0")]
    Nsm(#[source] NsmError),
    /// The boot key.
    #[error("the boot key is refused")]
    BootKey(#[source] BootKeyError),
    /// The address cannot be listened on.
    #[error("cannot listen for the pod")]
    Listen(#[source] io::Error),
    /// The runtime is shutting down.
    #[error("the boot was cut off")]
    CutOff,
}
