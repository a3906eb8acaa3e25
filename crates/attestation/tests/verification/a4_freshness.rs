//! A4: a nonce of at least 16 bytes, and an age.

use std::time::Duration;

use ciborium::Value;
use cloister_attestation::{
    ALLOWED_SKEW, Expectations, LIVE_MAX_AGE, MIN_NONCE_LEN, Misuse, Unexpected, verify,
};

use crate::forge::{Draft, NOW, at};

fn expect_nonce(nonce: &[u8]) -> Expectations {
    Expectations {
        nonce: Some(nonce.to_vec()),
        ..Expectations::default()
    }
}

#[test]
fn a4_the_nonce_is_the_expected_one() {
    let draft = Draft::new().set("nonce", Value::Bytes(vec![7; 32]));
    draft.verify_with(&expect_nonce(&[7; 32])).unwrap();
    draft.verify().unwrap();
    let mut last = [7; 32];
    last[31] = 8;
    for other in [&last[..], &[7; 31], &[7; 33], &[8; 32]] {
        let error = draft.verify_with(&expect_nonce(other)).unwrap_err();
        assert_eq!(error, Unexpected::Member { member: "nonce" }.into());
    }
}

#[test]
fn a4_a_missing_nonce_is_another_one() {
    for draft in [
        Draft::new(),
        Draft::new().remove("nonce"),
        Draft::new().set("nonce", Value::Bytes(Vec::new())),
    ] {
        let error = draft.verify_with(&expect_nonce(&[7; 32])).unwrap_err();
        assert_eq!(error, Unexpected::Member { member: "nonce" }.into());
    }
}

#[test]
fn a4_a_short_nonce_proves_nothing() {
    assert_eq!(MIN_NONCE_LEN, 16);
    for len in [0, 1, 15] {
        let draft = Draft::new().set("nonce", Value::Bytes(vec![7; len]));
        assert_eq!(
            draft.verify_with(&expect_nonce(&vec![7; len])).unwrap_err(),
            Misuse::ShortNonce { len }.into()
        );
    }
    let draft = Draft::new().set("nonce", Value::Bytes(vec![7; 16]));
    draft.verify_with(&expect_nonce(&[7; 16])).unwrap();
}

#[test]
fn a4_a_live_document_is_at_most_five_minutes_old() {
    assert_eq!(LIVE_MAX_AGE, Duration::from_secs(300));
    let draft = Draft::new();
    let live = Expectations {
        max_age: Some(LIVE_MAX_AGE),
        ..Expectations::default()
    };
    let verify_after = |seconds, expectations| {
        verify(
            &draft.sign(),
            &draft.trust_root(),
            at(NOW + seconds),
            expectations,
        )
    };
    verify_after(0, &live).unwrap();
    verify_after(300, &live).unwrap();
    let error = verify_after(301, &live).unwrap_err();
    assert_eq!(
        error,
        Unexpected::TooOld {
            age: Duration::from_secs(301),
            max: LIVE_MAX_AGE
        }
        .into()
    );
    verify_after(301, &Expectations::default()).unwrap();
}

#[test]
fn a4_milliseconds_count() {
    let draft = Draft::new().set("timestamp", NOW * 1000 - 1);
    let strict = Expectations {
        max_age: Some(Duration::ZERO),
        ..Expectations::default()
    };
    let error = draft.verify_with(&strict).unwrap_err();
    assert_eq!(
        error,
        Unexpected::TooOld {
            age: Duration::from_millis(1),
            max: Duration::ZERO
        }
        .into()
    );
}

#[test]
fn a4_a_document_from_the_future_is_refused_whatever_age_is_accepted() {
    let skew = u64::try_from(ALLOWED_SKEW.as_millis()).unwrap();
    for max_age in [None, Some(LIVE_MAX_AGE), Some(Duration::MAX)] {
        let expectations = Expectations {
            max_age,
            ..Expectations::default()
        };
        Draft::new()
            .set("timestamp", NOW * 1000 + skew)
            .verify_with(&expectations)
            .unwrap();
        for ahead in [skew + 1, 10 * skew, u64::MAX - NOW * 1000] {
            let error = Draft::new()
                .set("timestamp", NOW * 1000 + ahead)
                .verify_with(&expectations)
                .unwrap_err();
            assert_eq!(
                error,
                Unexpected::FromTheFuture {
                    ahead: Duration::from_millis(ahead)
                }
                .into()
            );
        }
    }
}
