//! Step 6, last part: an enclave with another measurement is refused, by the stack's own code and
//! by the KMS.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyEncryptionMechanism, RecipientInfo};
use cloister_contract::events;
use cloister_nsm::{Claims, Nsm as _};
use cloister_nsm_software::SoftwareNsm;
use cloister_protocol::row::Envelope;
use cloister_sealing::{encryption_context, wrapped_data_key};

use super::swap::{Row, row};
use super::{Demo, Wallet};
use crate::stack::readiness;

pub(super) async fn run(demo: &mut Demo<'_>, wallet: &Wallet) -> anyhow::Result<()> {
    another_enclave(demo).await?;

    // The data key of a real row, asked for directly with the credentials that the signer has.
    let table = demo
        .stack
        .dynamodb(&demo.stack.identities().administrator)?;
    let data_key = WrappedDataKey::of(&row(&table, wallet).await?, demo.stack.cmk_arn())?;
    let signer: [u8; 48] =
        const_hex::decode_to_array(demo.stack.measurements().signer.to_string())?;

    let released = decrypt(demo, &data_key, Some(signer)).await?;
    ensure!(
        released == Answer::Released,
        "KMS refuses the measurement that the policy names"
    );
    demo.report.held(
        "KMS releases a row's data key to the measurement of the policy …",
        None,
    );
    for (what, pcr0) in [
        ("to another measurement", Some(OTHER)),
        ("to a debug-mode document", Some(DEBUG)),
        ("without a document", None),
    ] {
        let answer = decrypt(demo, &data_key, pcr0).await?;
        ensure!(
            answer == Answer::AccessDenied,
            "KMS releases the data key {what}"
        );
        demo.report
            .held(&format!("… and not {what}: AccessDeniedException"), None);
    }
    Ok(())
}

/// A real signer, pod and enclave, with a measurement that the policy does not name. It must not
/// adopt the CMK.
async fn another_enclave(demo: &mut Demo<'_>) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut signer = demo.stack.start_another_signer().await?;
    let deadline = Instant::now() + TIMEOUT;
    while !signer.speaker().logged(events::CMK_NOT_ADOPTED)? {
        if Instant::now() > deadline {
            bail!(
                signer
                    .speaker()
                    .failure("it has not refused to adopt the CMK")
            );
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (status, body) = readiness(signer.health).await?;
    ensure!(status == 503, "the other enclave's pod is ready: {body}");
    let seconds = started.elapsed().as_secs_f64();
    demo.report.held(
        &format!("an enclave with another measurement never gets ready ({seconds:.1} s)"),
        None,
    );
    Ok(())
}

/// The wrapped data key of a row, with its encryption context.
struct WrappedDataKey {
    wrapped: Vec<u8>,
    context: HashMap<String, String>,
}

impl WrappedDataKey {
    /// Reads the envelope for `cmk_arn`.
    fn of(row: &Row, cmk_arn: &str) -> anyhow::Result<Self> {
        let envelope = row
            .get("sealed")
            .and_then(|sealed| sealed.as_m().ok())
            .and_then(|sealed| sealed.get(cmk_arn))
            .and_then(|envelope| envelope.as_b().ok())
            .context("the row has no envelope for the CMK")?;
        let envelope = Envelope(envelope.as_ref().to_vec());
        let (id, wrapped) = wrapped_data_key(&envelope)?;
        Ok(Self {
            wrapped: wrapped.to_vec(),
            context: encryption_context(id),
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Released,
    AccessDenied,
}

/// Asks KMS for the data key with a document of an enclave that measures as `pcr0`.
async fn decrypt(
    demo: &Demo<'_>,
    data_key: &WrappedDataKey,
    pcr0: Option<[u8; 48]>,
) -> anyhow::Result<Answer> {
    let kms = demo.stack.kms(&demo.stack.identities().signer)?;
    let mut call = kms
        .decrypt()
        .key_id(demo.stack.cmk_arn())
        .ciphertext_blob(Blob::new(&data_key.wrapped[..]))
        .set_encryption_context(Some(data_key.context.clone()));
    if let Some(pcr0) = pcr0 {
        let recipient = RecipientInfo::builder()
            .key_encryption_algorithm(KeyEncryptionMechanism::RsaesOaepSha256)
            .attestation_document(Blob::new(document(demo, pcr0)?));
        call = call.recipient(recipient.build());
    }
    match call.send().await {
        Ok(reply) => {
            ensure!(
                reply
                    .plaintext()
                    .is_none_or(|plaintext| plaintext.as_ref().is_empty()),
                "KMS returns a plaintext"
            );
            reply
                .ciphertext_for_recipient()
                .context("KMS returns nothing for the recipient")?;
            Ok(Answer::Released)
        }
        Err(error)
            if error
                .as_service_error()
                .and_then(|error| error.meta().code())
                == Some("AccessDeniedException") =>
        {
            Ok(Answer::AccessDenied)
        }
        Err(error) => Err(error).context("KMS neither releases nor refuses the data key"),
    }
}

/// A real attestation document, signed below the root that the KMS of the stack trusts. A
/// debug-mode enclave's registers are all zeros.
fn document(demo: &Demo<'_>, pcr0: [u8; 48]) -> anyhow::Result<Vec<u8>> {
    let nsm = SoftwareNsm::new(demo.stack.nsm(), BTreeMap::from([(0, pcr0)]))
        .context("failed to make an NSM")?;
    let key =
        PrivateDecryptingKey::generate(KeySize::Rsa2048).context("failed to make an RSA key")?;
    let key: PublicKeyX509Der<'_> = key
        .public_key()
        .as_der()
        .context("failed to encode an RSA key")?;
    let claims = Claims {
        public_key: Some(key.as_ref().to_vec()),
        ..Claims::default()
    };
    nsm.attest(&claims).context("the NSM does not attest")
}

const OTHER: [u8; 48] = [0x11; 48];
const DEBUG: [u8; 48] = [0; 48];
const TIMEOUT: Duration = Duration::from_secs(120);
