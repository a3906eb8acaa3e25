//! The measured settings: only what changes who can read keys or what they sign.

use cloister_contract::{AccountId, Region};
use cloister_key_policy::{Deployment, Pcr0};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

/// The settings file, which is the image's last ramdisk and therefore part of its PCR0. Two images
/// that differ only here are two different images to KMS.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Account, region and roles.
    pub deployment: Deployment,
    /// DNS suffix of the partition's services, such as `amazonaws.com`.
    pub dns_suffix: &'static str,
    /// Full ARN of the table that keeps the sealed rows.
    pub table_arn: String,
    /// The only roots that the enclave trusts for TLS, at least one. Their DER is parsed when they
    /// are used.
    pub tls_roots: Vec<CertificateDer<'static>>,
    /// A CMK is adopted although its policy can still be replaced.
    pub accept_open_policy: bool,
    /// The signer's image; only the key generator knows it.
    pub signer_pcr0: Option<Pcr0>,
}

impl Settings {
    /// Reads the settings file; unknown and duplicate members are refused.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn parse(json: &[u8]) -> Result<Self, SettingsError> {
        let file: File = serde_json::from_slice(json)?;
        let dns_suffix = dns_suffix(&file.partition)?;
        require("account", &file.account, |account| {
            account.parse::<AccountId>().is_ok()
        })?;
        // The region becomes part of host names.
        require("region", &file.region, |region| {
            region.parse::<Region>().is_ok()
        })?;
        let table = format!(
            "arn:{}:dynamodb:{}:{}:table/",
            file.partition, file.region, file.account
        );
        require("table_arn", &file.table_arn, |arn| {
            arn.strip_prefix(&table).is_some_and(|name| {
                !name.is_empty()
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
            })
        })?;
        Ok(Self {
            dns_suffix,
            tls_roots: roots(&file.tls_roots)?,
            deployment: Deployment {
                partition: file.partition,
                account: file.account,
                region: file.region,
                signer_role: file.signer_role,
                generator_role: file.generator_role,
                retirement_role: file.retirement_role,
                administrator_role: file.administrator_role,
            },
            table_arn: file.table_arn,
            accept_open_policy: file.accept_open_policy,
            signer_pcr0: file.signer_pcr0,
        })
    }

    /// The only host name that the enclave uses for `service`, such as `kms`.
    pub fn host(&self, service: &str) -> String {
        format!("{service}.{}.{}", self.deployment.region, self.dns_suffix)
    }
}

/// Invalid settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Not JSON, or with unknown, missing or duplicate members.
    #[error("the settings are not the expected JSON object")]
    Json(#[from] serde_json::Error),
    /// Unknown partition.
    #[error("`{0}` is an unknown AWS partition")]
    Partition(String),
    /// Invalid member.
    #[error("`{member}` is invalid: `{value}`")]
    Form {
        /// The member.
        member: &'static str,
        /// Its value.
        value: String,
    },
    /// A TLS root is not a PEM certificate.
    #[error("TLS root {0} is not one PEM certificate")]
    Root(usize),
    /// No TLS root.
    #[error("tls_roots is empty")]
    NoRoots,
}

/// The file. Role ARNs are checked when the key policy is rendered.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    partition: String,
    account: String,
    region: String,
    signer_role: String,
    generator_role: String,
    retirement_role: String,
    administrator_role: String,
    table_arn: String,
    /// PEM, one certificate each.
    tls_roots: Vec<String>,
    accept_open_policy: bool,
    #[serde(default)]
    signer_pcr0: Option<Pcr0>,
}

/// <https://docs.aws.amazon.com/general/latest/gr/rande.html>
fn dns_suffix(partition: &str) -> Result<&'static str, SettingsError> {
    match partition {
        "aws" | "aws-us-gov" => Ok("amazonaws.com"),
        "aws-cn" => Ok("amazonaws.com.cn"),
        unknown => Err(SettingsError::Partition(unknown.to_owned())),
    }
}

fn require(
    member: &'static str,
    value: &str,
    allowed: impl FnOnce(&str) -> bool,
) -> Result<(), SettingsError> {
    if allowed(value) {
        Ok(())
    } else {
        Err(SettingsError::Form {
            member,
            value: value.to_owned(),
        })
    }
}

fn roots(pems: &[String]) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    if pems.is_empty() {
        return Err(SettingsError::NoRoots);
    }
    pems.iter()
        .enumerate()
        .map(|(index, pem)| root(pem).ok_or(SettingsError::Root(index)))
        .collect()
}

fn root(pem: &str) -> Option<CertificateDer<'static>> {
    let mut certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    match (certificates.next(), certificates.next()) {
        (Some(Ok(certificate)), None) => Some(certificate),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn settings() -> Value {
        let key = rcgen::KeyPair::generate().unwrap();
        let root = rcgen::CertificateParams::new(vec![])
            .unwrap()
            .self_signed(&key)
            .unwrap()
            .pem();
        json!({
            "partition": "aws",
            "account": "123456789012",
            "region": "eu-central-1",
            "signer_role": "arn:aws:iam::123456789012:role/signer",
            "generator_role": "arn:aws:iam::123456789012:role/generator",
            "retirement_role": "arn:aws:iam::123456789012:role/retirement",
            "administrator_role": "arn:aws:iam::123456789012:role/administrator",
            "table_arn": "arn:aws:dynamodb:eu-central-1:123456789012:table/keys",
            "tls_roots": [root],
            "accept_open_policy": true,
        })
    }

    fn parse(settings: &Value) -> Result<Settings, SettingsError> {
        Settings::parse(settings.to_string().as_bytes())
    }

    #[test]
    fn host_names_follow_from_partition_and_region() {
        assert_eq!(
            parse(&settings()).unwrap().host("kms"),
            "kms.eu-central-1.amazonaws.com"
        );
        let mut china = settings();
        china["partition"] = "aws-cn".into();
        china["region"] = "cn-north-1".into();
        china["table_arn"] = "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/keys".into();
        assert_eq!(
            parse(&china).unwrap().host("dynamodb"),
            "dynamodb.cn-north-1.amazonaws.com.cn"
        );
    }

    #[test]
    fn what_is_not_expected_is_refused() {
        let root = settings()["tls_roots"][0].as_str().unwrap().to_owned();
        for (member, value) in [
            ("partition", json!("aws-iso")),
            ("account", json!("12345678901")),
            ("account", json!("12345678901x")),
            ("region", json!("evil.example/")),
            ("region", json!("")),
            ("table_arn", json!("keys")),
            (
                "table_arn",
                json!("arn:aws:dynamodb:eu-central-1:210987654321:table/keys"),
            ),
            (
                "table_arn",
                json!("arn:aws:dynamodb:eu-central-1:123456789012:table/"),
            ),
            (
                "table_arn",
                json!("arn:aws:dynamodb:eu-central-1:123456789012:table/keys/index/x"),
            ),
            ("tls_roots", json!([])),
            ("tls_roots", json!([""])),
            ("tls_roots", json!([format!("{root}{root}")])),
            ("signer_pcr0", json!("00".repeat(48))),
            ("endpoint", json!("http://127.0.0.1")),
        ] {
            let mut changed = settings();
            changed[member] = value.clone();
            assert!(parse(&changed).is_err(), "{member}: {value}");
        }
        let text = settings().to_string();
        let twice = text.replacen('{', r#"{"account":"210987654321","#, 1);
        assert!(
            Settings::parse(twice.as_bytes()).is_err(),
            "a member stands twice"
        );
    }
}
