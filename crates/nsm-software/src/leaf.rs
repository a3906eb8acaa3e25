//! The certificate that signs documents, and its key.

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use rcgen::{CertificateParams, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384};
use rustls_pki_types::CertificateDer;

use crate::error::SoftwareNsmError;
use crate::pki::{Pki, distinguished_name};

/// A certificate valid for [`LIFETIME`], with its P-384 key.
pub(crate) struct Leaf {
    certificate: CertificateDer<'static>,
    key: EcdsaKeyPair,
    issued: SystemTime,
}

impl Leaf {
    pub(crate) fn issue(
        pki: &Pki,
        module_id: &str,
        now: SystemTime,
    ) -> Result<Self, SoftwareNsmError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384);
        let key = key.map_err(|source| SoftwareNsmError::Pki {
            what: "a P-384 key",
            source,
        })?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(module_id);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::ContentCommitment,
        ];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + LIFETIME).into();
        let certificate = pki.issue(&params, &key);
        let certificate = certificate.map_err(|source| SoftwareNsmError::Pki {
            what: "the certificate of a module",
            source,
        })?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, key.serialized_der());
        let key = key.map_err(SoftwareNsmError::Key)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            key,
            issued: now,
        })
    }

    /// True if a document signed now could outlive this certificate, or if the clock was set back to
    /// before it.
    pub(crate) fn is_due(&self, now: SystemTime) -> bool {
        now.duration_since(self.issued)
            .map_or(true, |age| age >= LIFETIME - RENEWED_BEFORE_END)
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.certificate
    }

    /// ECDSA P-384 with SHA-384, r ‖ s as 48 bytes each (ES384, RFC 9053, section 2.1).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        Ok(self
            .key
            .sign(&SystemRandom::new(), message)?
            .as_ref()
            .to_vec())
    }
}

/// As long as AWS's.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3 * 60 * 60);

pub(crate) const RENEWED_BEFORE_END: Duration = Duration::from_secs(30 * 60);

/// For verifiers whose clock is a little behind, as AWS does it.
const BACKDATED: Duration = Duration::from_secs(3);
