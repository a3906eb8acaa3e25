//! The measured settings of both enclaves, and PCR0 of enclaves that are processes.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA384, digest};
use cloister_contract::Service;
use cloister_key_policy::{Deployment, Measurements, Pcr0};
use serde_json::{Value, json};

use crate::child::binary;
use crate::identity::{
    ACCOUNT, ADMINISTRATOR_ROLE, KEY_GENERATOR_ROLE, REGION, RETIREMENT_ROLE, SIGNER_ROLE,
    role_arn, table_arn,
};

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

/// The program of an enclave that is a process.
pub(crate) fn enclave_program(service: Service) -> &'static str {
    match service {
        Service::Signer => "cloister-local-signer-enclave",
        Service::KeyGenerator => "cloister-local-key-generator-enclave",
    }
}

fn measure(service: Service, settings: &str) -> anyhow::Result<Pcr0> {
    let measured = pcr0(&binary(enclave_program(service))?, settings.as_bytes())?;
    Pcr0::try_from(measured).context("an enclave measures as zeros")
}

/// PCR0 = SHA-384(SHA-384(executable) ‖ SHA-384(settings)): as with an image, another program or
/// other settings make another enclave.
fn pcr0(executable: &Path, settings: &[u8]) -> anyhow::Result<[u8; 48]> {
    let executable =
        fs::read(executable).with_context(|| format!("failed to read {}", executable.display()))?;
    let both = [digest(&SHA384, &executable), digest(&SHA384, settings)];
    let both: Vec<u8> = both
        .iter()
        .flat_map(|hash| hash.as_ref())
        .copied()
        .collect();
    Ok(digest(&SHA384, &both)
        .as_ref()
        .try_into()
        .expect("SHA-384 has 48 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_and_settings_are_both_measured() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        fs::write(&one, "one").unwrap();
        fs::write(&other, "other").unwrap();
        assert_eq!(pcr0(&one, b"{}").unwrap(), pcr0(&one, b"{}").unwrap());
        assert_ne!(pcr0(&one, b"{}").unwrap(), pcr0(&other, b"{}").unwrap());
        assert_ne!(pcr0(&one, b"{}").unwrap(), pcr0(&one, b"[]").unwrap());
    }
}
