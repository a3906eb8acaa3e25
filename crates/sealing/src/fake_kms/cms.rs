//! Writes what KMS writes: the counterpart of `crate::cms`, sharing nothing with it.

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};

/// How the encrypted content is written.
#[derive(Clone, Copy)]
pub(crate) enum ContentForm {
    /// In pieces of at most so many bytes, everything around them with indefinite lengths: as KMS
    /// does it.
    Chunks(usize),
    /// In one piece, everything with definite lengths: DER.
    Whole,
}

/// Encrypts `content` to the RSA key in `public_key` (SubjectPublicKeyInfo).
pub(crate) fn envelop(public_key: &[u8], content: &[u8], form: ContentForm) -> Vec<u8> {
    let (mut content_key, mut iv) = ([0; 32], [0; 16]);
    aws_lc_rs::rand::fill(&mut content_key).unwrap();
    aws_lc_rs::rand::fill(&mut iv).unwrap();

    let rsa =
        OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(public_key).unwrap()).unwrap();
    let mut encrypted_key = [0; 256];
    rsa.encrypt(
        &OAEP_SHA256_MGF1SHA256,
        &content_key,
        &mut encrypted_key,
        None,
    )
    .unwrap();

    let aes =
        PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, &content_key).unwrap())
            .unwrap();
    let mut ciphertext = content.to_vec();
    aes.less_safe_encrypt(
        &mut ciphertext,
        EncryptionContext::Iv128(FixedLength::from(iv)),
    )
    .unwrap();

    let (outer, content) = match form {
        ContentForm::Whole => (definite as Wrap, definite(0x80, &[&ciphertext])),
        ContentForm::Chunks(length) => {
            let chunks: Vec<_> = ciphertext
                .chunks(length)
                .map(|chunk| definite(0x04, &[chunk]))
                .collect();
            (
                indefinite as Wrap,
                indefinite(0xa0, &chunks.iter().map(Vec::as_slice).collect::<Vec<_>>()),
            )
        }
    };
    let sha256 = definite(0x30, &[&oid("608648016503040201"), &[5, 0]]);
    let mgf1 = definite(0x30, &[&oid("2a864886f70d010108"), &sha256]);
    let oaep = definite(
        0x30,
        &[&definite(0xa0, &[&sha256]), &definite(0xa1, &[&mgf1])],
    );
    let recipient = definite(
        0x30,
        &[
            &[2, 1, 2],
            &definite(0x80, &[&[0xcc; 32]]),
            &definite(0x30, &[&oid("2a864886f70d010107"), &oaep]),
            &definite(0x04, &[&encrypted_key]),
        ],
    );
    let cipher = definite(0x30, &[&oid("60864801650304012a"), &definite(0x04, &[&iv])]);
    let content_info = outer(0x30, &[&oid("2a864886f70d010701"), &cipher, &content]);
    let enveloped = outer(
        0x30,
        &[&[2, 1, 2], &definite(0x31, &[&recipient]), &content_info],
    );
    outer(
        0x30,
        &[&oid("2a864886f70d010703"), &outer(0xa0, &[&enveloped])],
    )
}

type Wrap = fn(u8, &[&[u8]]) -> Vec<u8>;

fn definite(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let [.., high, low] = contents.len().to_be_bytes();
    let length: &[u8] = match contents.len() {
        0..0x80 => &[low],
        0x80..0x100 => &[0x81, low],
        _ => &[0x82, high, low],
    };
    [&[tag], length, &contents].concat()
}

fn indefinite(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[tag, 0x80], &parts.concat()[..], &[0, 0]].concat()
}

fn oid(hex: &str) -> Vec<u8> {
    definite(0x06, &[&const_hex::decode(hex).unwrap()])
}
