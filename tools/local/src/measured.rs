//! The measured settings of both enclaves of the stack, and the PCR0 that follows from them for
//! processes.

use anyhow::Context as _;
use cloister_key_policy::{Deployment, Measurements, Pcr0};
use serde_json::{Value, json};

use crate::child::binary;
use crate::identity::{
    ACCOUNT, ADMINISTRATOR_ROLE, KEY_GENERATOR_ROLE, REGION, RETIREMENT_ROLE, SIGNER_ROLE,
    role_arn, table_arn,
};
use crate::measurement::pcr0;
use crate::service::Service;

/// Settings files and measurements of both enclaves as processes.
#[derive(Clone, Debug)]
pub(crate) struct Processes {
    pub(crate) signer_settings: String,
    pub(crate) generator_settings: String,
    pub(crate) measurements: Measurements,
}

impl Processes {
    /// Settings that trust `root` (PEM) for TLS, and what the programs measure as with them.
    pub(crate) fn new(root: &str) -> anyhow::Result<Self> {
        let signer_settings = settings(root, None);
        let signer = measure(Service::Signer, &signer_settings)?;
        let generator_settings = settings(root, Some(signer));
        let generator = measure(Service::KeyGenerator, &generator_settings)?;
        let measurements = Measurements::new(signer, generator);
        Ok(Self {
            signer_settings,
            generator_settings,
            measurements,
        })
    }

    pub(crate) fn settings(&self, service: Service) -> &str {
        match service {
            Service::Signer => &self.signer_settings,
            Service::KeyGenerator => &self.generator_settings,
        }
    }

    pub(crate) fn pcr0(&self, service: Service) -> Pcr0 {
        match service {
            Service::Signer => self.measurements.signer,
            Service::KeyGenerator => self.measurements.generator,
        }
    }
}

/// Account, region and roles of the stack, as the key policy names them.
pub(crate) fn deployment() -> Deployment {
    Deployment {
        partition: "aws".to_owned(),
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        signer_role: role_arn(SIGNER_ROLE),
        generator_role: role_arn(KEY_GENERATOR_ROLE),
        retirement_role: role_arn(RETIREMENT_ROLE),
        administrator_role: role_arn(ADMINISTRATOR_ROLE),
    }
}

/// The settings file of the stack's deployment, whose enclaves trust `root` (PEM) for TLS and write
/// to `table`.
pub(crate) fn deployment_settings(root: &str, table: &str) -> Value {
    let deployment = deployment();
    json!({
        "partition": deployment.partition,
        "account": deployment.account,
        "region": deployment.region,
        "signer_role": deployment.signer_role,
        "generator_role": deployment.generator_role,
        "retirement_role": deployment.retirement_role,
        "administrator_role": deployment.administrator_role,
        "table_arn": table,
        "tls_roots": [root],
        "accept_open_policy": true,
    })
}

fn settings(root: &str, signer: Option<Pcr0>) -> String {
    let mut settings = deployment_settings(root, &table_arn());
    if let Some(signer) = signer {
        settings["signer_pcr0"] = json!(signer.to_string());
    }
    settings.to_string()
}

fn measure(service: Service, settings: &str) -> anyhow::Result<Pcr0> {
    let measured = pcr0(&binary(service.enclave_program())?, settings.as_bytes())?;
    Pcr0::try_from(measured).context("an enclave measures as zeros")
}
