//! The probe of the key: a call of KMS that nothing but the missing attestation refuses.
//!
//! The policies of the role and of the key admit this pod's role to `GenerateDataKey`, with its
//! enclave's image as the only condition. So the pod asks without an enclave, as a dry run, which
//! KMS decides like a real call and answers without a key.

use std::time::Duration;

use aws_sdk_kms::Client;
use aws_sdk_kms::error::ProvideErrorMetadata as _;
use aws_sdk_kms::operation::generate_data_key::GenerateDataKeyError;
use aws_sdk_kms::types::DataKeySpec;
use cloister_aws_calls::{CallLimits, Retry, log_failure};
use cloister_contract::{Arn, events};
use tokio::time::sleep;

use crate::backoff::jittered;
use crate::config::KeyGeneratorConfig;

/// The probe of the key.
#[derive(Debug)]
pub struct KeyProbe {
    client: Client,
    cmk_arn: Arn,
    interval: Duration,
}

impl KeyProbe {
    /// The probe of the configured CMK, if it is enabled.
    pub fn configured(config: &KeyGeneratorConfig, client: Client) -> Option<Self> {
        Some(Self {
            client,
            cmk_arn: config.pod.cmk_arn.clone(),
            interval: Duration::from_secs(config.key_probe_seconds?.into()),
        })
    }

    /// Probes the key soon, and then at intervals.
    pub async fn run(self) {
        let delays = jittered(self.interval / FIRST_FRACTION)
            .take(1)
            .chain(jittered(self.interval));
        for delay in delays {
            sleep(delay).await;
            self.probe().await;
        }
    }

    async fn probe(&self) {
        let limits = aws_sdk_kms::config::Builder::new()
            .retry_config(CallLimits::KMS.retries())
            .timeout_config(CallLimits::KMS.timeouts())
            .retry_classifier(Retry::<GenerateDataKeyError>::new());
        let call = self
            .client
            .generate_data_key()
            .key_id(self.cmk_arn.to_string())
            .key_spec(DataKeySpec::Aes256)
            .encryption_context("purpose", ADMITTED_PURPOSE)
            .dry_run(true);
        // A reply is a key in spite of the dry run, which is dropped here.
        let refused = call.customize().config_override(limits).send().await.err();
        match refused.as_ref().map(|error| (error, error.code())) {
            None | Some((_, Some(WOULD_SUCCEED))) => tracing::error!(
                event = events::KEY_RELEASED,
                "KMS would give a data key to the key generator's role without an enclave"
            ),
            Some((_, Some(DENIED))) => tracing::info!(
                event = events::KEY_DENIED,
                "KMS denied a data key without an enclave, as it has to"
            ),
            Some((error, _)) => {
                log_failure(events::KEY_NOT_PROBED, "GenerateDataKey", error);
            }
        }
    }
}

/// The code of KMS for a call that a policy does not allow.
const DENIED: &str = "AccessDeniedException";
/// The code of KMS for a dry run of a call that it would have answered.
const WOULD_SUCCEED: &str = "DryRunOperationException";
/// A purpose that the key policy admits; it looks at no other member of the encryption context.
const ADMITTED_PURPOSE: &str = "wallet";
/// The first delay as a fraction of the others: a minute or two of an hour.
const FIRST_FRACTION: u32 = 60;
