//! A1, the payload: the members that AWS specifies, once each, with their types and sizes, and
//! nothing else.

use ciborium::Value;
use cloister_attestation::{AttestationError, CborError, Malformed};

use crate::forge::{Draft, pcrs, verify_now};

#[test]
fn a1_optional_members_may_be_null_missing_or_full() {
    for name in ["public_key", "user_data", "nonce"] {
        Draft::new().remove(name).verify().unwrap();
    }
    let full = Draft::new()
        .set("public_key", Value::Bytes(vec![1; 1024]))
        .set("user_data", Value::Bytes(vec![2; 1024]))
        .set("nonce", Value::Bytes(vec![3; 1024]));
    let verified = full.verify().unwrap();
    assert_eq!(verified.public_key(), Some(&[1; 1024][..]));
    assert_eq!(verified.user_data(), Some(&[2; 1024][..]));
    assert_eq!(verified.nonce(), Some(&[3; 1024][..]));
    let empty = Draft::new()
        .set("user_data", Value::Bytes(Vec::new()))
        .set("nonce", Value::Bytes(Vec::new()));
    let verified = empty.verify().unwrap();
    assert_eq!(verified.user_data(), Some(&[][..]));
    assert_eq!(verified.nonce(), Some(&[][..]));
}

#[test]
fn a1_required_members_are_required() {
    for member in [
        "module_id",
        "digest",
        "timestamp",
        "pcrs",
        "certificate",
        "cabundle",
    ] {
        let error = Draft::new().remove(member).verify().unwrap_err();
        assert_eq!(error, Malformed::MissingMember { member }.into());
    }
}

#[test]
fn a1_every_member_stands_once() {
    let draft = Draft::new();
    for (name, value) in draft.members.clone() {
        let name = name.as_text().unwrap();
        let error = Draft::new().add(name, value).verify().unwrap_err();
        let AttestationError::Malformed(Malformed::DuplicateMember { member }) = error else {
            panic!("{error:?}")
        };
        assert_eq!(member, name);
    }
}

#[test]
fn a1_unknown_members_are_refused() {
    for name in ["", "Nonce", "nonce ", "extra"] {
        let error = Draft::new().add(name, Value::Null).verify().unwrap_err();
        assert_eq!(
            error,
            Malformed::UnknownMember {
                name: name.to_owned()
            }
            .into()
        );
    }
    let mut draft = Draft::new();
    draft.members.push((Value::from(1), Value::Null));
    assert_eq!(
        draft.verify().unwrap_err(),
        cbor("the payload", "a text string in one piece")
    );
}

#[test]
fn a1_a_nitrotpm_document_is_refused_as_such() {
    let mut draft = Draft::new();
    let pcrs = draft
        .members
        .iter_mut()
        .find(|(name, _)| name.as_text() == Some("pcrs"));
    pcrs.unwrap().0 = "nitrotpm_pcrs".into();
    assert_eq!(draft.verify().unwrap_err(), Malformed::NitroTpm.into());
}

#[test]
fn a1_every_member_has_its_type() {
    let types = [
        (
            "module_id",
            Value::Bytes(b"i-0".to_vec()),
            "a text string in one piece",
        ),
        ("digest", Value::from(384), "a text string in one piece"),
        ("timestamp", Value::from(-1), "an unsigned integer"),
        (
            "timestamp",
            Value::from("1800000000000"),
            "an unsigned integer",
        ),
        ("timestamp", Value::from(1.8e12), "an unsigned integer"),
        ("pcrs", Value::Array(Vec::new()), "a map"),
        (
            "pcrs",
            Value::Map(vec![("0".into(), Value::Bytes(vec![1; 48]))]),
            "an unsigned integer",
        ),
        (
            "pcrs",
            Value::Map(vec![(0.into(), Value::Array(Vec::new()))]),
            "a byte string in one piece",
        ),
        ("certificate", Value::Null, "a byte string in one piece"),
        ("cabundle", Value::Bytes(vec![1]), "an array"),
        (
            "cabundle",
            Value::Array(vec![Value::from("PEM")]),
            "a byte string in one piece",
        ),
        (
            "public_key",
            Value::from("PEM"),
            "a byte string in one piece",
        ),
        (
            "user_data",
            Value::Bool(false),
            "a byte string in one piece",
        ),
        (
            "nonce",
            Value::Tag(2, Box::new(Value::Bytes(vec![1; 16]))),
            "a byte string in one piece",
        ),
    ];
    for (member, value, expected) in types {
        assert_eq!(
            Draft::new().set(member, value).verify().unwrap_err(),
            cbor(member, expected)
        );
    }
}

#[test]
fn a1_every_member_has_a_length_that_aws_allows() {
    let too_long = |len| Value::Bytes(vec![1; len]);
    for (member, value, len) in [
        ("module_id", Value::from(""), 0),
        ("module_id", Value::from("i".repeat(257)), 257),
        ("certificate", too_long(0), 0),
        ("certificate", too_long(1025), 1025),
        ("cabundle", Value::Array(vec![too_long(1025)]), 1025),
        ("cabundle", Value::Array(vec![too_long(0)]), 0),
        ("public_key", too_long(0), 0),
        ("public_key", too_long(1025), 1025),
        ("user_data", too_long(1025), 1025),
        ("nonce", too_long(1025), 1025),
    ] {
        assert_eq!(
            Draft::new().set(member, value).verify().unwrap_err(),
            Malformed::Length { member, len }.into()
        );
    }
    for (member, value) in [
        ("pcrs", Value::Map(Vec::new())),
        ("cabundle", Value::Array(Vec::new())),
    ] {
        assert_eq!(
            Draft::new().set(member, value).verify().unwrap_err(),
            Malformed::Empty { member }.into()
        );
    }
    assert_eq!(
        Draft::new().set("timestamp", 0).verify().unwrap_err(),
        Malformed::ZeroTimestamp.into()
    );
}

#[test]
fn a1_trailing_bytes_and_truncation_in_the_payload_are_refused() {
    let draft = Draft::new();
    let payload = draft.payload();
    let document = draft.sign_payload(&[&payload[..], &[0xf6]].concat());
    let source = CborError::TrailingBytes { len: 1 };
    let error = Malformed::Cbor {
        part: "the payload",
        source,
    };
    assert_eq!(
        verify_now(&document, &draft.trust_root()).unwrap_err(),
        error.into()
    );
    for len in [0, 1, payload.len() / 2, payload.len() - 1] {
        let document = draft.sign_payload(&payload[..len]);
        let error = verify_now(&document, &draft.trust_root()).unwrap_err();
        assert!(
            matches!(error, AttestationError::Malformed(_)),
            "{len}: {error:?}"
        );
    }
}

#[test]
fn a1_a_map_of_unknown_length_is_read_to_its_end() {
    let draft = Draft::new();
    let payload = draft.payload();
    let unknown = |end: &[u8]| draft.sign_payload(&[&[0xbf][..], &payload[1..], end].concat());
    verify_now(&unknown(&[0xff]), &draft.trust_root()).unwrap();
    for end in [&[][..], &[0xff, 0xff], &[0xff, 0x00], &[0x65]] {
        assert!(matches!(
            verify_now(&unknown(end), &draft.trust_root()),
            Err(AttestationError::Malformed(_))
        ));
    }
}

#[test]
fn a1_chunked_strings_are_refused() {
    let draft = Draft::new().remove("nonce");
    let mut payload = draft.payload();
    payload[0] += 1;
    payload.extend(const_hex::decode("656e6f6e6365").unwrap());
    let whole = [&payload[..], &const_hex::decode("420102").unwrap()].concat();
    let chunked = [&payload[..], &const_hex::decode("5f41014102ff").unwrap()].concat();
    verify_now(&draft.sign_payload(&whole), &draft.trust_root()).unwrap();
    let error = verify_now(&draft.sign_payload(&chunked), &draft.trust_root()).unwrap_err();
    assert_eq!(error, cbor("nonce", "a byte string in one piece"));
}

#[test]
fn a1_a_document_that_lists_locked_registers_beyond_the_sixteenth_passes() {
    let verified = Draft::new().set("pcrs", pcrs(0..32, 48)).verify().unwrap();
    assert_eq!(verified.pcrs().len(), 32);
    assert_eq!(verified.pcr(31), Some(&[32; 48]));
}

fn cbor(part: &'static str, expected: &'static str) -> AttestationError {
    Malformed::Cbor {
        part,
        source: CborError::Expected(expected),
    }
    .into()
}
