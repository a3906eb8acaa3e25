//! The platform that both enclaves share: settings, NSM, AWS, and the server that carries requests to
//! their handlers.

use std::fmt;
use std::io;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use cloister_contract::pcr;
use cloister_nsm::{Nsm, NsmError};
use cloister_protocol::Rejection;
use cloister_sealing::Recipient;
use cloister_settings::Settings;
use cloister_transport::{Address, EgressPool, Handler, Listener, Server};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::aws::Aws;
use crate::boot_key::{BootKey, BootKeyError};
use crate::boot_proofs::BootProofs;
use crate::egress::EgressHttpClient;
use crate::entropy::Entropy;
use crate::logging::Logged;
use crate::nsm_queue::{NsmQueue, Priority};

/// Everything in which a Nitro enclave and a laptop differ, provided by `main`.
pub struct Boot {
    /// The address on which pods connect.
    pub listen: Address,
    /// The measured settings.
    pub settings: Settings,
    /// The security module.
    pub nsm: Arc<dyn Nsm>,
    /// The private half of the boot key, which init made and locked PCR16 to.
    pub boot_key: Zeroizing<[u8; 32]>,
    /// Ends the enclave once the requests in flight are answered. On Nitro it is never cancelled.
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
/// [`BootError`] if it does not start.
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

/// The parts that both enclaves build on.
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
    boot_proofs: BootProofs,
}

impl Platform {
    /// Starts to make the recipient key, reads the measurement of this image, and takes its boot key.
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
            let pcr0 = measured.describe_pcr(pcr::IMAGE).map_err(BootError::Nsm)?;
            Ok((
                pcr0,
                BootKey::receive(boot_key.as_ref(), measured.as_ref())
                    .map_err(BootError::BootKey)?,
            ))
        })
        .await
        .map_err(|_| BootError::Interrupted)??;
        let settings = Arc::new(settings);
        Ok(Arc::new(Self {
            aws: Aws::new(settings.clone(), http),
            entropy: Entropy::new(nsm),
            recipient,
            pcr0: pcr0.value,
            boot_proofs: BootProofs::new(key, queue.handle(Priority::Public)),
            settings,
        }))
    }

    /// Proves which image this is: [`BootProof`](cloister_protocol::message::BootProof) as JSON.
    ///
    /// # Errors
    /// [`Code::InvalidField`](cloister_protocol::Code::InvalidField) if the nonce does not have 16 to
    /// 64 bytes; [`Code::Busy`](cloister_protocol::Code::Busy) if too many requests wait already.
    pub async fn prove_boot(&self, nonce: &[u8]) -> Result<Vec<u8>, Rejection> {
        let proof = self.boot_proofs.prove(nonce).await?;
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

/// The reason for which an enclave does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// A TLS root of the settings.
    #[error("a TLS root of the measured settings is not a certificate")]
    TlsRoot(#[source] rustls::Error),
    /// The operating system refused a thread for the NSM.
    #[error("failed to spawn the NSM thread")]
    Thread(#[source] io::Error),
    /// The NSM refused to describe the register of the image.
    #[error("failed to read PCR0")]
    Nsm(#[source] NsmError),
    /// The boot key from init.
    #[error("failed to take the boot key")]
    BootKey(#[source] BootKeyError),
    /// The address is in use or not allowed.
    #[error("failed to listen for the pod")]
    Listen(#[source] io::Error),
    /// The runtime is shutting down.
    #[error("the boot was interrupted")]
    Interrupted,
}
