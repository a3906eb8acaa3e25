//! Converts between rows and DynamoDB items.

use std::collections::HashMap;

use alloy_primitives::Address;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use cloister_protocol::row::Envelope;
use cloister_protocol::{KeyId, SealedRow};

use crate::error::StoreError;

pub(crate) const KEY_ID: &str = "key_id";
pub(crate) const VERSION: &str = "version";
const ADDRESS: &str = "address";
const CREATED_AT: &str = "created_at";
const SEALED: &str = "sealed";
/// An attribute that only rows of the reference deployment have.
const REFERENCE_CIPHERTEXT: &str = "ciphertext";

/// An item: its attributes by name.
pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) fn from_row(row: &SealedRow) -> Item {
    let sealed = row.sealed.iter().map(|(cmk_arn, envelope)| {
        (
            cmk_arn.clone(),
            AttributeValue::B(Blob::new(envelope.0.clone())),
        )
    });
    [
        (KEY_ID, AttributeValue::S(row.key_id.to_string())),
        (ADDRESS, AttributeValue::S(row.address.to_checksum(None))),
        (VERSION, AttributeValue::N(row.version.to_string())),
        (CREATED_AT, AttributeValue::N(row.created_at.to_string())),
        (SEALED, AttributeValue::M(sealed.collect())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

pub(crate) fn to_row(item: &Item) -> Result<SealedRow, StoreError> {
    let Some(sealed) = item.get(SEALED) else {
        let reference = item.contains_key(REFERENCE_CIPHERTEXT);
        return Err(if reference {
            StoreError::NotMigrated
        } else {
            StoreError::Malformed(SEALED)
        });
    };
    let sealed = sealed
        .as_m()
        .map_err(|_| StoreError::Malformed(SEALED))?
        .iter()
        .map(|(cmk_arn, envelope)| {
            let envelope = envelope.as_b().map_err(|_| StoreError::Malformed(SEALED))?;
            Ok((cmk_arn.clone(), Envelope(envelope.as_ref().to_vec())))
        });
    Ok(SealedRow {
        key_id: key_id(item)?,
        address: address(item)?,
        version: number(item, VERSION)?,
        created_at: number(item, CREATED_AT)?,
        sealed: sealed.collect::<Result<_, _>>()?,
    })
}

fn key_id(item: &Item) -> Result<KeyId, StoreError> {
    string(item, KEY_ID)?
        .parse()
        .map_err(|_| StoreError::Malformed(KEY_ID))
}

fn address(item: &Item) -> Result<Address, StoreError> {
    Address::parse_checksummed(string(item, ADDRESS)?, None)
        .map_err(|_| StoreError::Malformed(ADDRESS))
}

fn string<'a>(item: &'a Item, name: &'static str) -> Result<&'a str, StoreError> {
    let value = item.get(name).and_then(|value| value.as_s().ok());
    value.map(String::as_str).ok_or(StoreError::Malformed(name))
}

fn number(item: &Item, name: &'static str) -> Result<u64, StoreError> {
    let value = item.get(name).and_then(|value| value.as_n().ok());
    value
        .and_then(|value| value.parse().ok())
        .ok_or(StoreError::Malformed(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row() -> impl Strategy<Value = SealedRow> {
        let envelopes =
            proptest::collection::btree_map("[a-z:/0-9-]{1,80}", any::<Vec<u8>>(), 0..3);
        (
            any::<[u8; 16]>(),
            any::<[u8; 20]>(),
            any::<u64>(),
            any::<u64>(),
            envelopes,
        )
            .prop_map(|(id, address, version, created_at, sealed)| SealedRow {
                key_id: KeyId::from_random_bytes(id),
                address: address.into(),
                version,
                created_at,
                sealed: sealed
                    .into_iter()
                    .map(|(arn, bytes)| (arn, Envelope(bytes)))
                    .collect(),
            })
    }

    fn value() -> impl Strategy<Value = AttributeValue> {
        prop_oneof![
            any::<String>().prop_map(AttributeValue::S),
            any::<String>().prop_map(AttributeValue::N),
            any::<Vec<u8>>().prop_map(|bytes| AttributeValue::B(Blob::new(bytes))),
            any::<bool>().prop_map(AttributeValue::Bool),
            Just(AttributeValue::Null(true)),
            Just(AttributeValue::M(HashMap::from([(
                "arn".to_owned(),
                AttributeValue::Bool(true)
            )]))),
            Just(AttributeValue::L(Vec::new())),
        ]
    }

    proptest! {
        #[test]
        fn rows_round_trip(row in row()) {
            prop_assert_eq!(to_row(&from_row(&row)), Ok(row));
        }

        #[test]
        fn an_attribute_of_another_kind_is_named_or_harmless(row in row(), place in 0usize..5, value in value()) {
            let name = [KEY_ID, ADDRESS, VERSION, CREATED_AT, SEALED][place];
            let mut item = from_row(&row);
            item.insert(name.to_owned(), value);
            if let Err(error) = to_row(&item) {
                prop_assert_eq!(error, StoreError::Malformed(name));
            }
        }
    }

    fn changed(change: impl FnOnce(&mut Item)) -> Result<SealedRow, StoreError> {
        let mut item = from_row(&SealedRow {
            key_id: KeyId::CANARY,
            address: Address::repeat_byte(0xab),
            version: 1,
            created_at: 2,
            sealed: [("arn".to_owned(), Envelope(vec![1]))].into(),
        });
        change(&mut item);
        to_row(&item)
    }

    #[test]
    fn rows_of_the_reference_deployment_are_recognised() {
        let reference = |item: &mut Item| {
            item.retain(|name, _| name == KEY_ID || name == ADDRESS);
            item.insert("ciphertext".into(), AttributeValue::S("AQICAHg=".into()));
        };
        assert_eq!(changed(reference), Err(StoreError::NotMigrated));
    }

    #[test]
    fn malformed_items_are_refused() {
        let set = |name: &str, value| {
            let name = name.to_owned();
            changed(move |item| drop(item.insert(name, value)))
        };
        for name in [KEY_ID, ADDRESS, VERSION, CREATED_AT, SEALED] {
            assert_eq!(
                changed(|item| drop(item.remove(name))),
                Err(StoreError::Malformed(name))
            );
        }
        for text in ["-1", "1.5", "1e3", "", "18446744073709551616"] {
            assert_eq!(
                set(VERSION, AttributeValue::N(text.into())),
                Err(StoreError::Malformed(VERSION))
            );
        }
        // Lower case is not EIP-55, and one flipped letter is not the address that was meant.
        let lower = format!("0x{}", "ab".repeat(20));
        for text in [
            lower.as_str(),
            "0xabababababababababababababababababababab1",
            "",
        ] {
            assert_eq!(
                set(ADDRESS, AttributeValue::S(text.into())),
                Err(StoreError::Malformed(ADDRESS))
            );
        }
        let upper = "00000000-0000-0000-0000-00000000000A";
        assert_eq!(
            set(KEY_ID, AttributeValue::S(upper.into())),
            Err(StoreError::Malformed(KEY_ID))
        );
    }

    #[test]
    fn attributes_of_later_versions_are_ignored() {
        assert!(
            changed(|item| drop(item.insert("public_key".into(), AttributeValue::Bool(true))))
                .is_ok()
        );
    }
}
