//! The signature section: CBOR, an array with one map for PCR0, in which byte strings are arrays of
//! numbers.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

/// The DER of the one certificate of the section; none if the section has any other form.
pub(crate) fn signing_certificate(mut section: &[u8]) -> Option<Vec<u8>> {
    let [signature]: [PcrSignature; 1] = ciborium::from_reader(&mut section).ok()?;
    if !section.is_empty() {
        return None;
    }
    let mut certificates = CertificateDer::pem_slice_iter(&signature.signing_certificate);
    match (certificates.next(), certificates.next()) {
        (Some(Ok(certificate)), None) if !certificate.is_empty() => Some(certificate.to_vec()),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PcrSignature {
    /// PEM.
    signing_certificate: Vec<u8>,
    /// COSE_Sign1 over register and value; the hypervisor verifies it.
    #[serde(rename = "signature")]
    _signature: Vec<u8>,
}
