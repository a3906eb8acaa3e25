//! Verifies the chain from the pinned root to the key that signed the document.

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::aws_lc_rs::ECDSA_P384_SHA384;
use webpki::{EndEntityCert, KeyUsage, VerifiedPath, anchor_from_trusted_cert};

use crate::certificate::{Certificate, P384Key};
use crate::document::Document;
use crate::error::{ChainError, Position};
use crate::root::{TrustRoot, sha256};

/// Verifies the document's certificates at `at` and returns the key of the last one.
///
/// The bundle has to be the chain itself: the root first, every certificate used, in this order.
pub(crate) fn verify(
    document: &Document<'_>,
    root: &TrustRoot,
    at: UnixTime,
) -> Result<P384Key, ChainError> {
    let [anchor, intermediates @ ..] = document.cabundle.as_slice() else {
        return Err(ChainError::Empty);
    };
    if !root.is(anchor) {
        return Err(ChainError::ForeignRoot {
            sha256: const_hex::encode(sha256(anchor)),
        });
    }

    for (index, der) in document.cabundle.iter().enumerate() {
        let authority = Certificate::parse(Position::Bundle(index), der)?;
        authority.check_validity(at)?;
        authority.check_authority(document.cabundle.len() - 1 - index)?;
    }
    let signer = Certificate::parse(Position::Signer, document.certificate)?;
    signer.check_validity(at)?;
    let key = signer.check_signer()?;

    check_signatures(anchor, intermediates, document.certificate, at)?;
    Ok(key)
}

/// Names, signatures and unknown critical extensions, and once more validity and constraints: by
/// webpki.
fn check_signatures(
    anchor: &[u8],
    intermediates: &[&[u8]],
    signer: &[u8],
    at: UnixTime,
) -> Result<(), ChainError> {
    let anchor = CertificateDer::from(anchor);
    let anchors = [anchor_from_trusted_cert(&anchor).map_err(ChainError::Path)?];
    let intermediates: Vec<_> = intermediates
        .iter()
        .map(|der| CertificateDer::from(*der))
        .collect();
    let signer = CertificateDer::from(signer);
    let signer = EndEntityCert::try_from(&signer).map_err(ChainError::Path)?;
    let path = signer
        // AWS's certificates have no extended key usage; one that had would have to allow
        // authentication.
        .verify_for_usage(
            &[ECDSA_P384_SHA384],
            &anchors,
            &intermediates,
            at,
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map_err(ChainError::Path)?;
    if is_whole_bundle(&path, &intermediates) {
        Ok(())
    } else {
        Err(ChainError::NotTheBundle)
    }
}

fn is_whole_bundle(path: &VerifiedPath<'_>, intermediates: &[CertificateDer<'_>]) -> bool {
    // webpki starts at the signer, the bundle at the root.
    path.intermediate_certificates()
        .map(|certificate| certificate.der())
        .eq(intermediates.iter().rev().cloned())
}
