//! A5: user data and public key are those that are claimed.

use ciborium::Value;
use cloister_attestation::{Expectations, Unexpected};

use crate::forge::Draft;

fn expect(member: &str, value: &[u8]) -> Expectations {
    let value = Some(value.to_vec());
    match member {
        "user_data" => Expectations {
            user_data: value,
            ..Expectations::default()
        },
        _ => Expectations {
            public_key: value,
            ..Expectations::default()
        },
    }
}

#[test]
fn a5_user_data_and_public_key_are_the_expected_ones() {
    for member in ["user_data", "public_key"] {
        let draft = Draft::new().set(member, Value::Bytes(b"cloister".to_vec()));
        draft.verify_with(&expect(member, b"cloister")).unwrap();
        draft.verify().unwrap();
        for other in [&b""[..], b"cloiste", b"cloister ", b"Cloister"] {
            let error = draft.verify_with(&expect(member, other)).unwrap_err();
            assert_eq!(error, Unexpected::Member { member }.into());
        }
        for draft in [Draft::new(), Draft::new().remove(member)] {
            assert_eq!(
                draft.verify_with(&expect(member, b"cloister")).unwrap_err(),
                Unexpected::Member { member }.into()
            );
        }
    }
}

#[test]
fn a5_empty_user_data_is_not_missing_user_data() {
    let empty = Draft::new().set("user_data", Value::Bytes(Vec::new()));
    empty.verify_with(&expect("user_data", b"")).unwrap();
    let error = Draft::new()
        .verify_with(&expect("user_data", b""))
        .unwrap_err();
    assert_eq!(
        error,
        Unexpected::Member {
            member: "user_data"
        }
        .into()
    );
}

#[test]
fn a5_one_member_does_not_stand_for_another() {
    let draft = Draft::new().set("user_data", Value::Bytes(vec![7; 32]));
    let error = draft
        .verify_with(&expect("public_key", &[7; 32]))
        .unwrap_err();
    assert_eq!(
        error,
        Unexpected::Member {
            member: "public_key"
        }
        .into()
    );
    let nonce = Expectations {
        nonce: Some(vec![7; 32]),
        ..Expectations::default()
    };
    assert_eq!(
        draft.verify_with(&nonce).unwrap_err(),
        Unexpected::Member { member: "nonce" }.into()
    );
}
