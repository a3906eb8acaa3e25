//! A6: a software root verifies only where it is passed explicitly.

use std::collections::BTreeMap;

use cloister_attestation::{
    AttestationError, ChainError, Expectations, TrustRoot, document_time, verify,
};
use cloister_nsm::{Claims, Nsm};
use cloister_nsm_software::{Pki, SoftwareNsm};

use crate::vectors::document;

fn software_document(pki: &Pki) -> Vec<u8> {
    let pcrs: BTreeMap<u16, _> = (0..3).map(|index| (index, [0x11; 48])).collect();
    SoftwareNsm::new(pki, pcrs)
        .unwrap()
        .attest(&Claims::default())
        .unwrap()
}

#[test]
fn a6_a_software_root_verifies_only_when_passed_explicitly() {
    let (pki, other) = (Pki::generate().unwrap(), Pki::generate().unwrap());
    let document = software_document(&pki);
    let now = document_time(&document).unwrap();
    let root = TrustRoot::explicit(pki.root_der().to_vec());
    verify(&document, &root, now, &Expectations::default()).unwrap();
    for root in [
        TrustRoot::aws(),
        TrustRoot::explicit(other.root_der().to_vec()),
    ] {
        let error = verify(&document, &root, now, &Expectations::default()).unwrap_err();
        assert!(
            matches!(
                error,
                AttestationError::Untrusted(ChainError::ForeignRoot { .. })
            ),
            "{error:?}"
        );
    }
}

#[test]
fn a6_a_software_root_does_not_verify_what_aws_signed() {
    let document = document("aws-2022-07-06");
    let time = document_time(&document).unwrap();
    let root = TrustRoot::explicit(Pki::generate().unwrap().root_der().to_vec());
    let error = verify(&document, &root, time, &Expectations::default()).unwrap_err();
    assert!(
        matches!(
            error,
            AttestationError::Untrusted(ChainError::ForeignRoot { .. })
        ),
        "{error:?}"
    );
    verify(&document, &TrustRoot::aws(), time, &Expectations::default()).unwrap();
}

#[test]
fn a6_a_root_survives_its_pem() {
    let pki = Pki::generate().unwrap();
    let loaded = Pki::from_pem(&pki.to_pem()).unwrap();
    let document = software_document(&loaded);
    let root = TrustRoot::explicit(pki.root_der().to_vec());
    verify(
        &document,
        &root,
        document_time(&document).unwrap(),
        &Expectations::default(),
    )
    .unwrap();
}
