//! The key and certificate of a signed image, checked because AWS's builder panics on invalid ones.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_nitro_enclaves_image_format::utils::SignKeyData;
use openssl::asn1::Asn1Time;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::X509;

use crate::output;

/// A P-384 key and its valid certificate.
pub(crate) struct SigningKey {
    certificate: PathBuf,
    key: PathBuf,
}

impl SigningKey {
    /// Reads both and checks that they belong together.
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self> {
        let named = |path: &Path, problem: &str| format!("{}: {problem}", path.display());

        let pem = output::read(certificate, MAX_PEM)?;
        let mut certificates = X509::stack_from_pem(&pem)
            .with_context(|| named(certificate, "not a PEM certificate"))?;
        let only = certificates.pop().filter(|_| certificates.is_empty());
        let only =
            only.with_context(|| named(certificate, "exactly one PEM certificate is expected"))?;
        let now = Asn1Time::days_from_now(0)?;
        ensure!(
            only.not_before() <= &*now && &*now <= only.not_after(),
            named(
                certificate,
                "not valid at this time; the hypervisor would not start the image"
            )
        );
        if let Some(warning) = ends_soon(&only)? {
            eprintln!("warning: {}", named(certificate, &warning));
        }

        let pem = output::read(key, MAX_PEM)?;
        // A callback, because OpenSSL would otherwise ask the terminal for the password of an
        // encrypted key.
        let private = PKey::private_key_from_pem_callback(&pem, |_| Ok(0))
            .with_context(|| named(key, "not a PEM private key without password"))?;
        let curve = private
            .ec_key()
            .ok()
            .and_then(|key| key.group().curve_name());
        ensure!(
            curve == Some(Nid::SECP384R1),
            named(
                key,
                "a P-384 key is expected: openssl ecparam -name secp384r1 -genkey"
            )
        );
        let public = only
            .public_key()
            .with_context(|| named(certificate, "no public key"))?;
        ensure!(
            private.public_eq(&public),
            named(certificate, "the certificate of another key")
        );
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        })
    }

    /// The argument of the builder.
    pub(crate) fn data(&self) -> Result<SignKeyData> {
        let key = self
            .key
            .to_str()
            .with_context(|| format!("{} is not UTF-8", self.key.display()))?;
        SignKeyData::new(key, &self.certificate).map_err(|error| anyhow!("failed to sign: {error}"))
    }
}

/// The hypervisor does not start an image whose certificate has expired, so a running enclave cannot
/// be restarted then.
fn ends_soon(certificate: &X509) -> Result<Option<String>> {
    let end = certificate.not_after();
    let soon = Asn1Time::days_from_now(WARNING_DAYS)?;
    Ok((end < &*soon).then(|| format!("the certificate expires soon, at {end}")))
}

const MAX_PEM: u64 = 64 << 10;
/// As `cloister_eif::CertificateWarning::PERIOD`.
const WARNING_DAYS: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_within_a_month_is_warned_about() {
        let ending_in = |days| {
            let mut certificate = X509::builder().unwrap();
            certificate
                .set_not_after(&Asn1Time::days_from_now(days).unwrap())
                .unwrap();
            ends_soon(&certificate.build()).unwrap()
        };
        assert_eq!(ending_in(31), None);
        assert!(ending_in(29).is_some_and(|text| text.contains("expires soon, at ")));
    }
}
