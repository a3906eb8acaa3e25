use std::collections::BTreeMap;

use alloy_primitives::B256;
use cloister_protocol::row::Envelope;
use cloister_protocol::{Code, PrivateKey, Rejection, SealedRow, Verifier};
use cloister_signing::{address, sign_prehash};
use proptest::prelude::*;
use serde::Deserialize;

use super::seal::seal_with_nonce;
use super::*;
use crate::capability::{Capabilities, Capability};
use crate::data_key::FreshDataKey;
use crate::hazmat;

const ACCEPTED: &[&str] = &[
    "accepted-canary",
    "accepted-generated",
    "accepted-imported",
    "accepted-leading-zeros",
];
const REFUSED: &[&str] = &[
    "refused-address-edited",
    "refused-address-of-another",
    "refused-capability-reserved",
    "refused-ciphertext-edited",
    "refused-dek-id-edited",
    "refused-empty",
    "refused-extended",
    "refused-format-2",
    "refused-key-id-edited",
    "refused-no-envelope",
    "refused-nonce-edited",
    "refused-origin-edited",
    "refused-origin-unknown",
    "refused-other-cmk",
    "refused-other-data-key",
    "refused-policy",
    "refused-scalar-order",
    "refused-scalar-zero",
    "refused-swapped",
    "refused-tag-edited",
    "refused-truncated",
    "refused-verifier-p256",
    "refused-verifier-unknown",
    "refused-version-edited",
    "refused-wrapped-edited",
    "refused-wrapped-empty",
    "refused-wrapped-length",
];

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/sealing");
const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

#[derive(Deserialize)]
struct Vector {
    name: String,
    data_key: DataKeyVector,
    row: SealedRow,
    contents: Option<ContentsVector>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct DataKeyVector {
    key: String,
    id: String,
    wrapped: String,
    cmk_arn: String,
}

#[derive(Deserialize)]
struct ContentsVector {
    private_key: String,
    verifier: String,
    capabilities: Vec<String>,
    origin: String,
    nonce: String,
}

impl Vector {
    fn read(name: &str) -> Self {
        serde_json::from_slice(&std::fs::read(format!("{VECTORS}/{name}.json")).unwrap()).unwrap()
    }

    fn data_key(&self) -> FreshDataKey {
        let DataKeyVector {
            key,
            id,
            wrapped,
            cmk_arn,
        } = &self.data_key;
        hazmat::fresh_data_key(
            DekId::from_bytes(bytes(id)),
            &const_hex::decode(wrapped).unwrap(),
            cmk_arn,
            &mut bytes(key),
        )
    }
}

impl ContentsVector {
    fn contents(&self) -> RowContents {
        let capability = |name: &String| match name.as_str() {
            "transaction" => Capability::Transaction,
            "user_op_hash" => Capability::UserOpHash,
            other => panic!("{other}"),
        };
        RowContents {
            key: PrivateKey::from_hex(&self.private_key).unwrap(),
            verifier: Verifier::from_bytes(bytes(&self.verifier)),
            capabilities: self.capabilities.iter().map(capability).collect(),
        }
    }

    fn origin(&self) -> Origin {
        match self.origin.as_str() {
            "generated" => Origin::Generated,
            "imported" => Origin::Imported,
            "migrated" => Origin::Migrated,
            other => panic!("{other}"),
        }
    }
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    const_hex::decode_to_array(hex).unwrap()
}

#[test]
fn every_vector_is_listed() {
    let mut files: Vec<_> = std::fs::read_dir(VECTORS)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    files.sort();
    assert_eq!(files, [ACCEPTED, REFUSED].concat());
}

#[test]
fn golden_envelopes_are_made_and_opened() {
    for name in ACCEPTED {
        let vector = Vector::read(name);
        let (row, data_key, expected) = (
            &vector.row,
            vector.data_key(),
            vector.contents.as_ref().unwrap(),
        );

        let header = RowHeader {
            key_id: row.key_id,
            address: row.address,
            origin: expected.origin(),
            version: row.version,
        };
        let envelope = seal_with_nonce(
            &header,
            &expected.contents(),
            &data_key,
            bytes(&expected.nonce),
        );
        assert_eq!(
            envelope,
            row.sealed[data_key.as_data_key().cmk_arn()],
            "{}",
            vector.name
        );

        let opened = open_with(row, data_key.as_data_key()).unwrap();
        assert_eq!(opened.key().expose(), expected.contents().key.expose());
        assert_eq!(
            opened.verifier().expose(),
            expected.contents().verifier.expose()
        );
        assert_eq!(opened.capabilities(), expected.contents().capabilities);
        assert_eq!(
            (opened.key_id(), opened.address()),
            (row.key_id, row.address)
        );
        assert_eq!(
            (opened.origin(), opened.version()),
            (expected.origin(), row.version)
        );
    }
}

#[test]
fn whatever_was_not_sealed_for_this_row_is_refused() {
    for name in REFUSED {
        let vector = Vector::read(name);
        let (error, rejection) = match open_with(&vector.row, vector.data_key().as_data_key()) {
            Err(error) => (error.to_string(), Rejection::from(error)),
            Ok(opened) => {
                let error = opened.sign_prehash(&B256::repeat_byte(1)).unwrap_err();
                (error.to_string(), error.into())
            }
        };
        assert_eq!(Some(error), vector.error, "{name}: {}", vector.name);
        assert_eq!(rejection.code, Code::SealedRowRefused);
    }
}

fn data_key(seed: u8) -> FreshDataKey {
    hazmat::fresh_data_key(
        DekId::from_bytes([seed; 16]),
        &[seed; 184],
        ARN,
        &mut [seed; 32],
    )
}

fn row_of(header: &RowHeader, envelope: Envelope) -> SealedRow {
    SealedRow {
        key_id: header.key_id,
        address: header.address,
        version: header.version,
        created_at: 0,
        sealed: BTreeMap::from([(ARN.to_owned(), envelope)]),
    }
}

#[test]
fn an_address_of_another_key_is_not_sealed() {
    let contents = RowContents {
        key: PrivateKey::take(&mut [7; 32]).unwrap(),
        verifier: Verifier::from_bytes([1; 32]),
        capabilities: Capabilities::NONE,
    };
    let header = RowHeader {
        key_id: KeyId::CANARY,
        address: Address::repeat_byte(1),
        origin: Origin::Generated,
        version: 1,
    };
    assert_eq!(
        seal(&header, &contents, data_key(1)).err(),
        Some(SealError::Address)
    );
}

#[test]
fn nonces_are_not_repeated_and_nothing_secret_is_shown() {
    let contents = RowContents {
        key: PrivateKey::take(&mut [7; 32]).unwrap(),
        verifier: Verifier::from_bytes([1; 32]),
        capabilities: Capabilities::NONE,
    };
    let address = address(&contents.key);
    let header = RowHeader {
        key_id: KeyId::CANARY,
        address,
        origin: Origin::Generated,
        version: 1,
    };
    let first = seal(&header, &contents, data_key(0xee)).unwrap();
    assert_ne!(first, seal(&header, &contents, data_key(0xee)).unwrap());

    let data_key = data_key(0xee);
    let row = row_of(&header, first);
    let opened = open_with(&row, data_key.as_data_key()).unwrap();
    let shown = format!("{data_key:?} {contents:?} {opened:?} {row:?}");
    for secret in [
        "7, 7",
        "0707",
        "1, 1",
        "0101",
        "238, 238, 238, 238, 238, 238, 238, 238, 238, 238, 238, 238, 238, 238, 238, 238, 238",
    ] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Hex without leading zeros, as some wallets write it, would lose one key in 256.
    #[test]
    fn keys_with_leading_zeros_survive(
        scalar: [u8; 32], zeros in 0usize..32, id: [u8; 16], verifier: [u8; 32], version: u64, digest: [u8; 32],
    ) {
        let mut scalar = scalar;
        scalar[..zeros].fill(0);
        let Ok(key) = PrivateKey::take(&mut scalar.clone()) else { return Ok(()) };
        let contents = RowContents {
            verifier: Verifier::from_bytes(verifier),
            capabilities: [Capability::Transaction].into_iter().collect(),
            key,
        };
        let header = RowHeader {
            key_id: KeyId::from_random_bytes(id),
            address: address(&contents.key),
            origin: Origin::Imported,
            version,
        };
        let row = row_of(&header, seal(&header, &contents, data_key(3)).unwrap());

        let opened = open_with(&row, data_key(3).as_data_key()).unwrap();
        prop_assert_eq!(opened.key().expose(), &scalar);
        prop_assert_eq!(opened.verifier().expose(), &verifier);
        let signed = opened.sign_prehash(&digest.into()).unwrap();
        prop_assert_eq!(Ok(signed), sign_prehash(&contents.key, &digest.into(), header.address));
    }

    /// Every single changed bit of an envelope is noticed.
    #[test]
    fn changed_envelopes_do_not_open(place: prop::sample::Index, bit in 0u8..8) {
        let vector = Vector::read("accepted-generated");
        let mut row = vector.row.clone();
        let envelope = &mut row.sealed.get_mut(ARN).unwrap().0;
        let place = place.index(envelope.len());
        envelope[place] ^= 1 << bit;
        prop_assert!(open_with(&row, vector.data_key().as_data_key()).is_err());
    }
}
