//! A3: PCR0–2 exact and not zero, PCR8 from the signing certificate, SHA-384 registers below 32.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA384, digest};
use ciborium::Value;
use cloister_attestation::{
    AttestationError, DebugMode, Expectations, Malformed, Misuse, Unexpected,
};

use crate::forge::{Draft, pcrs};

fn with_pcr(index: u8, value: Vec<u8>) -> Draft {
    let Value::Map(mut entries) = pcrs(0..16, 48) else {
        unreachable!()
    };
    entries[usize::from(index)].1 = Value::Bytes(value);
    Draft::new().set("pcrs", Value::Map(entries))
}

#[test]
fn a3_pcr0_pcr1_and_pcr2_are_exact() {
    let expected: BTreeMap<u8, [u8; 48]> = (0..3).map(|index| (index, [index + 1; 48])).collect();
    let expectations = Expectations {
        pcrs: expected.clone(),
        ..Expectations::default()
    };
    Draft::new().verify_with(&expectations).unwrap();
    for index in 0..3 {
        for bit in [0x01, 0x80] {
            let mut pcrs = expected.clone();
            pcrs.get_mut(&index).unwrap()[47] ^= bit;
            let expectations = Expectations {
                pcrs,
                ..Expectations::default()
            };
            assert_eq!(
                Draft::new().verify_with(&expectations).unwrap_err(),
                Unexpected::Pcr { index }.into()
            );
        }
    }
}

#[test]
fn a3_an_expected_register_that_is_not_listed_is_refused() {
    for index in [16, 31, 32, 255] {
        let expectations = Expectations {
            pcrs: BTreeMap::from([(index, [0; 48])]),
            ..Expectations::default()
        };
        assert_eq!(
            Draft::new().verify_with(&expectations).unwrap_err(),
            Unexpected::Pcr { index }.into()
        );
    }
}

#[test]
fn a3_debug_mode_is_refused_by_default() {
    assert_eq!(Expectations::default().debug, DebugMode::Refuse);
    for index in 0..3 {
        let zero = with_pcr(index, vec![0; 48]);
        assert_eq!(zero.verify().unwrap_err(), Unexpected::DebugMode.into());
        let rest = (0..16).filter(|other| *other != index);
        let missing = Draft::new().set("pcrs", pcrs(rest, 48));
        assert_eq!(missing.verify().unwrap_err(), Unexpected::DebugMode.into());

        let allowed = Expectations {
            debug: DebugMode::Allow,
            ..Expectations::default()
        };
        assert!(zero.verify_with(&allowed).unwrap().is_debug());
        assert!(missing.verify_with(&allowed).unwrap().is_debug());
        assert!(!Draft::new().verify_with(&allowed).unwrap().is_debug());
    }
}

#[test]
fn a3_zero_registers_that_no_image_fills_are_no_debug_mode() {
    for index in 3..16 {
        with_pcr(index, vec![0; 48]).verify().unwrap();
    }
}

#[test]
fn a3_expecting_zeros_is_a_mistake_unless_debug_mode_is_allowed() {
    for index in 0..3 {
        let expectations = Expectations {
            pcrs: BTreeMap::from([(index, [0; 48])]),
            ..Expectations::default()
        };
        let zero = with_pcr(index, vec![0; 48]);
        assert_eq!(
            zero.verify_with(&expectations).unwrap_err(),
            Misuse::ZeroPcr { index }.into()
        );
        zero.verify_with(&Expectations {
            debug: DebugMode::Allow,
            ..expectations
        })
        .unwrap();
    }
}

#[test]
fn a3_the_digest_is_sha384() {
    for digest in ["SHA256", "SHA512", "sha384", "SHA384 ", ""] {
        assert_eq!(
            Draft::new().set("digest", digest).verify().unwrap_err(),
            Malformed::Digest.into()
        );
    }
}

#[test]
fn a3_registers_have_48_bytes() {
    for len in [0, 32, 47, 49, 64] {
        let error = with_pcr(4, vec![1; len]).verify().unwrap_err();
        assert_eq!(error, Malformed::PcrLength { index: 4, len }.into());
    }
}

#[test]
fn a3_registers_have_an_index_below_32_and_stand_once() {
    for index in [32_u64, 255, 256, u64::from(u32::MAX) + 1, u64::MAX] {
        let entry = (Value::from(index), Value::Bytes(vec![1; 48]));
        let Value::Map(mut entries) = pcrs(0..16, 48) else {
            unreachable!()
        };
        entries.push(entry);
        let error = Draft::new()
            .set("pcrs", Value::Map(entries))
            .verify()
            .unwrap_err();
        assert_eq!(error, Malformed::PcrIndex { index }.into());
    }
    let twice = pcrs((0..16).chain([7]), 48);
    assert_eq!(
        Draft::new().set("pcrs", twice).verify().unwrap_err(),
        Malformed::DuplicatePcr { index: 7 }.into()
    );
}

#[test]
fn a3_pcr8_is_that_of_the_signing_certificate() {
    let certificate = b"any certificate, DER".to_vec();
    let pcr8 = digest(
        &SHA384,
        &[&[0; 48][..], digest(&SHA384, &certificate).as_ref()].concat(),
    );
    let expect = |certificate: &[u8]| Expectations {
        signing_certificate: Some(certificate.to_vec()),
        ..Expectations::default()
    };
    let draft = with_pcr(8, pcr8.as_ref().to_vec());
    draft.verify_with(&expect(&certificate)).unwrap();
    for refused in [
        draft.verify_with(&expect(b"another certificate, DER")),
        with_pcr(8, vec![0; 48]).verify_with(&expect(&certificate)),
        Draft::new()
            .set("pcrs", pcrs(0..8, 48))
            .verify_with(&expect(&certificate)),
    ] {
        assert_eq!(
            refused.unwrap_err(),
            AttestationError::Unexpected(Unexpected::SigningCertificate)
        );
    }
}
