//! The software NSM against the verifier: two implementations that share no code.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use cloister_attestation::{
    DebugMode, Expectations, TrustRoot, Unexpected, UnixTime, VerifiedDocument, document_time,
    verify,
};
use cloister_nsm::{Claims, Nsm};
use cloister_nsm_software::{Pki, SoftwareNsm};

use crate::forge::{NOW, at};

fn pcrs() -> BTreeMap<u16, [u8; 48]> {
    (0..3)
        .map(|index| (index, [u8::try_from(index).unwrap() + 1; 48]))
        .collect()
}

fn check(
    pki: &Pki,
    document: &[u8],
    now: UnixTime,
    expectations: &Expectations,
) -> VerifiedDocument {
    verify(
        document,
        &TrustRoot::explicit(pki.root_der().to_vec()),
        now,
        expectations,
    )
    .unwrap()
}

#[test]
fn documents_say_what_the_module_was_told() {
    let pki = Pki::generate().unwrap();
    let nsm = SoftwareNsm::new(&pki, pcrs()).unwrap();
    let claims = Claims {
        user_data: Some(b"kms".to_vec()),
        nonce: Some(vec![9; 32]),
        public_key: Some(vec![4; 294]),
    };
    let document = nsm.attest(&claims).unwrap();
    let expectations = Expectations {
        pcrs: (0..3).map(|index| (index, [index + 1; 48])).collect(),
        nonce: claims.nonce.clone(),
        max_age: Some(Duration::from_secs(60)),
        user_data: claims.user_data.clone(),
        public_key: claims.public_key.clone(),
        ..Expectations::default()
    };
    let verified = check(&pki, &document, UnixTime::now(), &expectations);
    assert_eq!(verified.module_id(), nsm.describe().unwrap().module_id);
    assert_eq!(
        verified.pcrs().keys().copied().collect::<Vec<_>>(),
        (0..16).collect::<Vec<_>>()
    );
    assert_eq!(verified.user_data(), claims.user_data.as_deref());
    assert_eq!(verified.time(), document_time(&document).unwrap());
}

#[test]
fn claims_at_their_limits_verify() {
    let pki = Pki::generate().unwrap();
    let nsm = SoftwareNsm::new(&pki, pcrs()).unwrap();
    let claims = Claims {
        user_data: Some(vec![1; 512]),
        nonce: Some(vec![2; 512]),
        public_key: Some(vec![3; 1024]),
    };
    let verified = check(
        &pki,
        &nsm.attest(&claims).unwrap(),
        UnixTime::now(),
        &Expectations::default(),
    );
    assert_eq!(verified.public_key().map(<[u8]>::len), Some(1024));
}

#[test]
fn extended_registers_are_reported_once_locked() {
    let pki = Pki::generate().unwrap();
    let nsm = SoftwareNsm::new(&pki, pcrs()).unwrap();
    let value = nsm.extend_pcr(16, b"boot key").unwrap();
    let attest = || {
        check(
            &pki,
            &nsm.attest(&Claims::default()).unwrap(),
            UnixTime::now(),
            &Expectations::default(),
        )
    };
    assert_eq!(attest().pcr(16), None);
    nsm.lock_pcr(16).unwrap();
    assert_eq!(attest().pcr(16), Some(&value));
}

#[test]
fn zero_measurements_are_debug_mode() {
    let pki = Pki::generate().unwrap();
    let document = SoftwareNsm::new(&pki, BTreeMap::new())
        .unwrap()
        .attest(&Claims::default())
        .unwrap();
    let root = TrustRoot::explicit(pki.root_der().to_vec());
    let error = verify(&document, &root, UnixTime::now(), &Expectations::default()).unwrap_err();
    assert_eq!(error, Unexpected::DebugMode.into());
    let allowed = Expectations {
        debug: DebugMode::Allow,
        ..Expectations::default()
    };
    assert!(check(&pki, &document, UnixTime::now(), &allowed).is_debug());
}

#[test]
fn the_signing_certificate_is_renewed_before_it_ends() {
    let pki = Pki::generate().unwrap();
    let clock = Arc::new(AtomicU64::new(NOW));
    let nsm = {
        let clock = clock.clone();
        let now =
            move || SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed));
        SoftwareNsm::with_clock(&pki, pcrs(), now).unwrap()
    };
    let document_at = |seconds: u64| {
        clock.store(NOW + seconds, Ordering::Relaxed);
        nsm.attest(&Claims::default()).unwrap()
    };
    // Whenever a document is made, it verifies for at least half an hour less a second; also after
    // the clock was set back.
    for seconds in [0, 9_000 - 1, 9_000, 9_001, 17_999, 100_000, 5] {
        let document = document_at(seconds);
        for later in [0, 1799] {
            check(
                &pki,
                &document,
                at(NOW + seconds + later),
                &Expectations::default(),
            );
        }
    }
    // One that was made at the start does not for ever.
    let document = document_at(0);
    let root = TrustRoot::explicit(pki.root_der().to_vec());
    assert!(
        verify(
            &document,
            &root,
            at(NOW + 3 * 60 * 60 + 6),
            &Expectations::default()
        )
        .is_err()
    );
}
