//! The ciphertext blob: returned by Encrypt and GenerateDataKey, opened by Decrypt.
//!
//! ```text
//! blob = version (1 byte, 1) ‖ key id (16) ‖ nonce (12) ‖ AES-256-GCM(material, plaintext) ‖ tag (16)
//! AAD  = version ‖ key id ‖ for each pair of the encryption context, by key: len(key) ‖ key ‖ len(value) ‖ value     (lengths u64 big endian)
//! ```

use std::collections::BTreeMap;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    error::Unspecified,
};
use uuid::Uuid;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const HEADER_LEN: usize = 1 + 16;
const NONCE_LEN: usize = 12;

/// The caller's encryption context, sorted.
pub(crate) type EncryptionContext = BTreeMap<String, String>;

/// Seals `plaintext` under a key's material.
pub(crate) fn seal(
    key_id: Uuid,
    material: &[u8; 32],
    context: &EncryptionContext,
    plaintext: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    let mut sealed = Zeroizing::new(plaintext.to_vec());
    let nonce = RandomizedNonceKey::new(&AES_256_GCM, material)?
        .seal_in_place_append_tag(Aad::from(associated(key_id, context)), &mut *sealed)?;
    let mut blob = vec![VERSION];
    blob.extend(key_id.as_bytes());
    blob.extend(nonce.as_ref());
    blob.extend(sealed.iter());
    Ok(blob)
}

/// The key id that a blob names.
pub(crate) fn key_id(blob: &[u8]) -> Option<Uuid> {
    match blob.split_first() {
        Some((&VERSION, rest)) => Uuid::from_slice(rest.get(..16)?).ok(),
        _ => None,
    }
}

/// Opens a blob whose [`key_id`] is this key's.
pub(crate) fn open(
    key_id: Uuid,
    material: &[u8; 32],
    context: &EncryptionContext,
    blob: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let nonce = blob
        .get(HEADER_LEN..HEADER_LEN + NONCE_LEN)
        .ok_or(Unspecified)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce)?;
    let mut opened = Zeroizing::new(blob[HEADER_LEN + NONCE_LEN..].to_vec());
    let length = RandomizedNonceKey::new(&AES_256_GCM, material)?
        .open_in_place(nonce, Aad::from(associated(key_id, context)), &mut opened)?
        .len();
    opened.truncate(length);
    Ok(opened)
}

fn associated(key_id: Uuid, context: &EncryptionContext) -> Vec<u8> {
    let mut associated = vec![VERSION];
    associated.extend(key_id.as_bytes());
    for text in context.iter().flat_map(|(key, value)| [key, value]) {
        // A slice's length always fits.
        associated.extend((text.len() as u64).to_be_bytes());
        associated.extend(text.as_bytes());
    }
    associated
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_sealed_opens(id: u128, material: [u8; 32], context: EncryptionContext, plaintext: Vec<u8>) {
            let id = Uuid::from_u128(id);
            let blob = seal(id, &material, &context, &plaintext).unwrap();
            prop_assert_eq!(key_id(&blob), Some(id));
            prop_assert_eq!(&**open(id, &material, &context, &blob).unwrap(), &*plaintext);
        }

        #[test]
        fn arbitrary_bytes_do_not_open(mut blob: Vec<u8>, versioned: bool) {
            if let (true, Some(first)) = (versioned, blob.first_mut()) {
                *first = VERSION;
            }
            let id = key_id(&blob).unwrap_or_default();
            prop_assert!(open(id, &[7; 32], &EncryptionContext::new(), &blob).is_err());
        }
    }

    fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn opens_only_untouched_and_with_the_same_context() {
        let (id, material) = (Uuid::from_u128(7), [9; 32]);
        let ours = context(&[("app", "cloister"), ("purpose", "wallet")]);
        let blob = seal(id, &material, &ours, b"data key").unwrap();
        assert_eq!(key_id(&blob), Some(id));
        assert_eq!(**open(id, &material, &ours, &blob).unwrap(), *b"data key");

        for (position, length) in (0..blob.len()).map(|position| (position, blob.len() - position))
        {
            let mut changed = blob.clone();
            changed[position] ^= 1;
            let same_key = key_id(&changed) == Some(id);
            assert!(
                !same_key || open(id, &material, &ours, &changed).is_err(),
                "byte {position}"
            );
            assert!(
                open(id, &material, &ours, &blob[..blob.len() - length]).is_err(),
                "cut by {length}"
            );
        }
        for other in [
            context(&[]),
            context(&[("app", "cloister")]),
            context(&[("app", "cloister"), ("purpose", "Wallet")]),
            context(&[("appcloister", ""), ("purpose", "wallet")]),
        ] {
            assert!(open(id, &material, &other, &blob).is_err());
        }
        assert!(open(id, &[8; 32], &ours, &blob).is_err());
    }
}
