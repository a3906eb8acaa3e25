//! A1: COSE_Sign1 tagged or untagged, ES384 in the protected header, the signature over the
//! payload's bytes, nothing trailing.

use ciborium::Value;
use cloister_attestation::{AttestationError, CborError, Malformed};

use crate::forge::{Draft, encode, verify_now};

#[test]
fn a1_a_good_document_passes_tagged_and_untagged() {
    let draft = Draft::new();
    let document = draft.sign();
    let untagged = verify_now(&document, &draft.trust_root()).unwrap();
    let tagged = verify_now(&[&[0xd2][..], &document].concat(), &draft.trust_root()).unwrap();
    assert_eq!(untagged, tagged);
    assert_eq!(
        untagged.module_id(),
        "i-0123456789abcdef0-enc0123456789abcdef"
    );
    assert_eq!(untagged.pcr(2), Some(&[3; 48]));
    assert_eq!(untagged.pcr(16), None);
    assert!(!untagged.is_debug());
}

#[test]
fn a1_only_tag_18_is_accepted_and_only_once() {
    let draft = Draft::new();
    let document = draft.sign();
    for tag in [
        &[0xd1][..],
        &[0xd2, 0xd2],
        &[0xd8, 0x61],
        &[0xd9, 0xd9, 0xf7],
    ] {
        let error = verify_now(&[tag, &document].concat(), &draft.trust_root()).unwrap_err();
        assert_eq!(error, envelope(CborError::Expected("an array")), "{tag:x?}");
    }
}

#[test]
fn a1_trailing_bytes_are_refused() {
    let draft = Draft::new();
    let document = draft.sign();
    for trailing in [&[0x00][..], &[0xf6], &[0xff], &document] {
        let error = verify_now(&[&document, trailing].concat(), &draft.trust_root()).unwrap_err();
        assert_eq!(
            error,
            envelope(CborError::TrailingBytes {
                len: trailing.len()
            })
        );
    }
}

#[test]
fn a1_only_es384_alone_in_the_protected_header_is_accepted() {
    // ES256, ES512, EdDSA, RS256, no algorithm, the algorithm as text, a key id beside it, the
    // algorithm twice, a header of unknown length, no header at all.
    for protected in [
        "a10126",
        "a1013823",
        "a10127",
        "a139010026",
        "a0",
        "a101654553333834",
        "a2013822044101",
        "a2013822013822",
        "bf013822ff",
        "",
    ] {
        let mut draft = Draft::new();
        draft.protected = const_hex::decode(protected).unwrap();
        let error = draft.verify().unwrap_err();
        let refused = matches!(
            error,
            AttestationError::Malformed(
                Malformed::Algorithm
                    | Malformed::Cbor {
                        part: "the protected header",
                        ..
                    }
            )
        );
        assert!(refused, "{protected}: {error:?}");
    }
}

#[test]
fn a1_trailing_bytes_in_the_protected_header_are_refused() {
    let mut draft = Draft::new();
    draft.protected.push(0);
    let source = CborError::TrailingBytes { len: 1 };
    let error = Malformed::Cbor {
        part: "the protected header",
        source,
    };
    assert_eq!(draft.verify().unwrap_err(), error.into());
}

#[test]
fn a1_the_unprotected_header_is_empty() {
    let draft = Draft::new();
    let algorithm = (Value::from(1), Value::from(-35));
    for unprotected in [
        vec![algorithm.clone()],
        vec![(Value::from(4), Value::Bytes(vec![1]))],
    ] {
        let document = assemble(
            &draft,
            Value::Map(unprotected),
            Value::Bytes(draft.payload()),
        );
        let error = verify_now(&document, &draft.trust_root()).unwrap_err();
        assert_eq!(error, Malformed::UnprotectedHeader.into());
    }

    let mut draft = draft;
    draft.protected = const_hex::decode("a0").unwrap();
    let document = assemble(
        &draft,
        Value::Map(vec![algorithm]),
        Value::Bytes(draft.payload()),
    );
    assert_eq!(
        verify_now(&document, &draft.trust_root()).unwrap_err(),
        Malformed::UnprotectedHeader.into()
    );
}

#[test]
fn a1_a_detached_payload_is_refused() {
    let draft = Draft::new();
    let document = assemble(&draft, Value::Map(Vec::new()), Value::Null);
    assert!(matches!(
        verify_now(&document, &draft.trust_root()),
        Err(AttestationError::Malformed(_))
    ));
}

#[test]
fn a1_the_envelope_has_four_parts() {
    let draft = Draft::new();
    let bytes = || Value::Bytes(Vec::new());
    for parts in [
        vec![],
        vec![bytes(), Value::Map(Vec::new()), bytes()],
        vec![bytes(), Value::Map(Vec::new()), bytes(), bytes(), bytes()],
    ] {
        let document = encode(&Value::Array(parts));
        assert_eq!(
            verify_now(&document, &draft.trust_root()).unwrap_err(),
            Malformed::NotSign1.into()
        );
    }
}

#[test]
fn a1_a_signature_has_96_bytes() {
    let draft = Draft::new();
    let payload = draft.payload();
    let signature = draft.signature(&payload);
    for len in [0, 95, 97, 192] {
        let signature = signature.iter().copied().chain([0; 96]).take(len).collect();
        let document = encode(&Value::Array(vec![
            Value::Bytes(draft.protected.clone()),
            Value::Map(Vec::new()),
            Value::Bytes(payload.clone()),
            Value::Bytes(signature),
        ]));
        let error = verify_now(&document, &draft.trust_root()).unwrap_err();
        assert_eq!(error, Malformed::SignatureLength { len }.into());
    }
}

#[test]
fn a1_the_signature_covers_the_bytes_of_the_payload() {
    let draft = Draft::new();
    let other = Draft::new();
    let payload = draft.payload();
    let foreign = encode(&Value::Array(vec![
        Value::Bytes(draft.protected.clone()),
        Value::Map(Vec::new()),
        Value::Bytes(payload.clone()),
        Value::Bytes(other.signature(&payload)),
    ]));
    assert_eq!(
        verify_now(&foreign, &draft.trust_root()).unwrap_err(),
        AttestationError::BadSignature
    );

    // The same members in another encoding: a map of unknown length.
    let same = [&[0xbf][..], &payload[1..], &[0xff]].concat();
    let reencoded = encode(&Value::Array(vec![
        Value::Bytes(draft.protected.clone()),
        Value::Map(Vec::new()),
        Value::Bytes(same.clone()),
        Value::Bytes(draft.signature(&payload)),
    ]));
    assert_eq!(
        verify_now(&reencoded, &draft.trust_root()).unwrap_err(),
        AttestationError::BadSignature
    );
    verify_now(&draft.sign_payload(&same), &draft.trust_root()).unwrap();
}

fn assemble(draft: &Draft, unprotected: Value, payload: Value) -> Vec<u8> {
    let signature = draft.signature(&draft.payload());
    let protected = Value::Bytes(draft.protected.clone());
    encode(&Value::Array(vec![
        protected,
        unprotected,
        payload,
        Value::Bytes(signature),
    ]))
}

fn envelope(source: CborError) -> AttestationError {
    Malformed::Cbor {
        part: "the envelope",
        source,
    }
    .into()
}
