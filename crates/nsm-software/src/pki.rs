//! The chain above a software NSM's certificate: a root that can be kept, and an intermediate of
//! this process.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::error::SoftwareNsmError;

/// A P-384 root and an intermediate below it. Cheap to clone.
#[derive(Clone)]
pub struct Pki {
    inner: Arc<Inner>,
}

struct Inner {
    root: CertificateDer<'static>,
    pem: String,
    intermediate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// A new root, and an intermediate below it.
    ///
    /// # Errors
    /// [`SoftwareNsmError::Pki`] if the cryptographic library fails.
    pub fn generate() -> Result<Self, SoftwareNsmError> {
        let key = generate_key()?;
        let root = root_params().self_signed(&key);
        let root = root.map_err(|source| SoftwareNsmError::Pki {
            what: "the root certificate",
            source,
        })?;
        let pem = root.pem() + &key.serialize_pem();
        Self::below(root.der().clone(), &key, pem)
    }

    /// The root that [`Pki::to_pem`] wrote, and a new intermediate below it.
    ///
    /// # Errors
    /// [`SoftwareNsmError::Pem`] or [`SoftwareNsmError::ForeignRoot`] for a text that it did not
    /// write.
    pub fn from_pem(pem: &str) -> Result<Self, SoftwareNsmError> {
        let root = CertificateDer::from_pem_slice(pem.as_bytes());
        let root = root.map_err(|_| SoftwareNsmError::Pem("a certificate"))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes());
        let key = key.map_err(|_| SoftwareNsmError::Pem("a PKCS#8 private key"))?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P384_SHA384);
        let key = key.map_err(|_| SoftwareNsmError::Pem("a P-384 private key"))?;
        // This crate writes its roots itself, with a fixed name; it has no need of an X.509 parser
        // to recognise one.
        if !contains(&root, key.public_key_raw()) || !contains(&root, ROOT_NAME.as_bytes()) {
            return Err(SoftwareNsmError::ForeignRoot);
        }
        Self::below(root, &key, pem.to_owned())
    }

    /// The root with its private key, as PEM text. Whoever has it can write any attestation
    /// document under this root.
    pub fn to_pem(&self) -> String {
        self.inner.pem.clone()
    }

    /// The root certificate, DER: what a verifier has to be given explicitly.
    pub fn root_der(&self) -> &[u8] {
        &self.inner.root
    }

    /// The certificates above a leaf, the root first, as a document's `cabundle` has them.
    pub(crate) fn bundle(&self) -> [&[u8]; 2] {
        [&self.inner.root, &self.inner.intermediate]
    }

    pub(crate) fn issue(
        &self,
        params: &CertificateParams,
        key: &KeyPair,
    ) -> Result<Certificate, rcgen::Error> {
        params.signed_by(key, &self.inner.issuer)
    }

    fn below(
        root: CertificateDer<'static>,
        root_key: &KeyPair,
        pem: String,
    ) -> Result<Self, SoftwareNsmError> {
        let params = authority(INTERMEDIATE_NAME, BasicConstraints::Constrained(0));
        let key = generate_key()?;
        let intermediate = params.signed_by(&key, &Issuer::new(root_params(), root_key));
        let intermediate = intermediate.map_err(|source| SoftwareNsmError::Pki {
            what: "the intermediate certificate",
            source,
        })?;
        let intermediate = intermediate.der().clone();
        Ok(Self {
            inner: Arc::new(Inner {
                root,
                pem,
                intermediate,
                issuer: Issuer::new(params, key),
            }),
        })
    }
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki").finish_non_exhaustive()
    }
}

fn generate_key() -> Result<KeyPair, SoftwareNsmError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384);
    key.map_err(|source| SoftwareNsmError::Pki {
        what: "a P-384 key",
        source,
    })
}

fn root_params() -> CertificateParams {
    authority(ROOT_NAME, BasicConstraints::Unconstrained)
}

fn authority(name: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    // As long as AWS's root, and early enough for a clock that a test sets.
    params.not_before = date_time_ymd(2019, 10, 28);
    params.not_after = date_time_ymd(2049, 10, 28);
    params
}

pub(crate) fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Cloister");
    name.push(
        DnType::OrganizationalUnitName,
        "software NSM, proves nothing",
    );
    name.push(DnType::CommonName, common_name);
    name
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

const ROOT_NAME: &str = "root.software-nsm.cloister";
const INTERMEDIATE_NAME: &str = "intermediate.software-nsm.cloister";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_survives_its_pem_and_the_intermediate_does_not() {
        let pki = Pki::generate().unwrap();
        let loaded = Pki::from_pem(&pki.to_pem()).unwrap();
        assert_eq!(loaded.root_der(), pki.root_der());
        assert_eq!(loaded.to_pem(), pki.to_pem());
        assert_ne!(loaded.bundle()[1], pki.bundle()[1]);
    }

    #[test]
    fn pem_of_something_else_is_refused() {
        let [one, other] = [(); 2].map(|()| Pki::generate().unwrap().to_pem());
        let split = |pem: &str| {
            let (certificate, key) = pem.split_at(pem.find("-----BEGIN PRIVATE KEY").unwrap());
            (certificate.to_owned(), key.to_owned())
        };
        let ((certificate, key), (_, other_key)) = (split(&one), split(&other));
        let refusal = |pem: &str| Pki::from_pem(pem).unwrap_err().to_string();
        assert_eq!(refusal(""), "the PEM text does not hold a certificate");
        assert_eq!(refusal(&key), "the PEM text does not hold a certificate");
        assert_eq!(
            refusal(&certificate),
            "the PEM text does not hold a PKCS#8 private key"
        );
        assert_eq!(
            refusal(&(certificate + &other_key)),
            "the certificate is not a software NSM's root with this key"
        );
        let same_key = KeyPair::from_pem(&key).unwrap();
        let other_name = authority("somebody else", BasicConstraints::Unconstrained)
            .self_signed(&same_key)
            .unwrap();
        assert_eq!(
            refusal(&(other_name.pem() + &key)),
            "the certificate is not a software NSM's root with this key"
        );
        assert!(!format!("{:?}", Pki::generate().unwrap()).contains("KEY"));
    }
}
