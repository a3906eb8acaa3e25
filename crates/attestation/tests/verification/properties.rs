//! Properties: nothing panics, and no change of a genuine document survives.

use cloister_attestation::{DebugMode, Expectations, TrustRoot, UnixTime, document_time, verify};
use proptest::prelude::*;

use crate::forge::{Draft, verify_now};
use crate::vectors::document;

/// Debug mode is allowed, so that it is not the reason for a refusal.
fn accepts(document: &[u8], at: UnixTime) -> bool {
    let expectations = Expectations {
        debug: DebugMode::Allow,
        ..Expectations::default()
    };
    verify(document, &TrustRoot::aws(), at, &expectations).is_ok()
}

fn genuine() -> [(Vec<u8>, UnixTime); 2] {
    ["aws-2022-07-06", "aws-2026-08-03-debug"].map(|name| {
        let document = document(name);
        let time = document_time(&document).unwrap();
        assert!(accepts(&document, time));
        (document, time)
    })
}

#[test]
fn no_byte_of_a_genuine_document_can_be_changed() {
    for (document, time) in genuine() {
        let mut changed = document.clone();
        for offset in 0..document.len() {
            changed[offset] ^= 1 << (offset % 8);
            assert!(!accepts(&changed, time), "byte {offset}");
            changed[offset] = document[offset];
        }
    }
}

#[test]
fn a_genuine_document_ends_where_it_ends() {
    for (document, time) in genuine() {
        for len in 0..document.len() {
            assert!(!accepts(&document[..len], time), "{len} bytes");
        }
    }
}

proptest! {
    #[test]
    fn no_single_change_of_a_genuine_document_survives(
        which in 0_usize..2,
        place in any::<prop::sample::Index>(),
        change in change(),
    ) {
        let (document, time) = &genuine()[which];
        let mut changed = document.clone();
        change.apply(&mut changed, place.index(document.len()));
        // With tag 18 in front it is the same document.
        prop_assume!(changed != *document && changed.strip_prefix(&[0xd2]) != Some(document));
        prop_assert!(!accepts(&changed, *time), "{change:?}");
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(document_time(&bytes).is_err());
        prop_assert!(!accepts(&bytes, UnixTime::since_unix_epoch(std::time::Duration::ZERO)));
    }

    #[test]
    fn signed_payloads_never_panic(place in any::<prop::sample::Index>(), change in change()) {
        // Behind a good signature, so that every check after it sees the change.
        let draft = Draft::new();
        let mut payload = draft.payload();
        let at = place.index(payload.len());
        change.apply(&mut payload, at);
        let document = draft.sign_payload(&payload);
        let _ = document_time(&document);
        let _ = verify_now(&document, &draft.trust_root());
    }
}

#[derive(Clone, Debug)]
enum Change {
    Set(u8),
    Insert(u8),
    Remove,
    Double(usize),
    Cut(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, at: usize) {
        let within = |len: usize| at..(at + len).min(bytes.len());
        match self {
            Self::Set(byte) => bytes[at] = *byte,
            Self::Insert(byte) => bytes.insert(at, *byte),
            Self::Remove => drop(bytes.remove(at)),
            Self::Double(len) => {
                let copy = bytes[within(*len)].to_vec();
                bytes.splice(at..at, copy);
            }
            Self::Cut(len) => drop(bytes.drain(within(*len))),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<u8>().prop_map(Change::Set),
        any::<u8>().prop_map(Change::Insert),
        Just(Change::Remove),
        (1_usize..200).prop_map(Change::Double),
        (1_usize..200).prop_map(Change::Cut),
    ]
}
