//! Writes `CiphertextForRecipient` as KMS does: CMS EnvelopedData in BER. For the local KMS and for
//! tests; the reader in `cloister-sealing` shares no code with it.
//!
//! ```text
//! ContentInfo { envelopedData, [0] EnvelopedData {
//!     version 2,
//!     SET { KeyTransRecipientInfo { version 2, [0] SHA-256(SubjectPublicKeyInfo), RSAES-OAEP(SHA-256, MGF1-SHA-256), OAEP(content key) } },
//!     EncryptedContentInfo { data, AES-256-CBC(iv), [0] { OCTET STRING … } } } }
//! ```
//! The outer sequences and the content are of indefinite length, the recipient's parts of definite
//! length; the content comes in OCTET STRINGs of 1000 bytes. RFC 5652 section 6, X.690 section
//! 8.1.3.

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use zeroize::Zeroizing;

/// The encoding of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The content in OCTET STRINGs of at most this length, the sequences around it with indefinite
    /// lengths.
    Chunks(usize),
    /// The content in one piece, all lengths definite: DER.
    Whole,
}

impl Form {
    /// The form that KMS uses.
    pub const KMS: Self = Self::Chunks(1000);
}

/// Encrypts to an RSA public key (SubjectPublicKeyInfo, DER).
///
/// # Errors
/// [`Unspecified`] if it is not an RSA key, or if there is no randomness.
pub fn encrypt(public_key: &[u8], plaintext: &[u8], form: Form) -> Result<Vec<u8>, Unspecified> {
    let recipient = OaepPublicEncryptingKey::new(
        PublicEncryptingKey::from_der(public_key).map_err(|_| Unspecified)?,
    )?;
    let mut content_key = Zeroizing::new([0; 32]);
    rand::fill(&mut *content_key)?;

    let mut wrapped = vec![0; recipient.ciphertext_size()];
    recipient.encrypt(&OAEP_SHA256_MGF1SHA256, &*content_key, &mut wrapped, None)?;

    let mut content = Zeroizing::new(plaintext.to_vec());
    let cipher =
        PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, &*content_key)?)?;
    let DecryptionContext::Iv128(iv) = cipher.encrypt(&mut *content)? else {
        return Err(Unspecified);
    };

    Ok(enveloped_data(
        digest(&SHA256, public_key).as_ref(),
        &wrapped,
        iv.as_ref(),
        &content,
        form,
    ))
}

fn enveloped_data(
    key_identifier: &[u8],
    wrapped: &[u8],
    iv: &[u8],
    content: &[u8],
    form: Form,
) -> Vec<u8> {
    let recipient = definite(
        SEQUENCE,
        &[
            &definite(INTEGER, &[&[2]]),
            &definite(CONTEXT_0, &[key_identifier]),
            &RSAES_OAEP_SHA256,
            &definite(OCTET_STRING, &[wrapped]),
        ],
    );
    let cipher = definite(SEQUENCE, &[&AES_256_CBC, &definite(OCTET_STRING, &[iv])]);
    let (outer, content) = match form {
        Form::Whole => (definite as Encode, definite(CONTEXT_0, &[content])),
        Form::Chunks(len) => {
            let chunks: Vec<_> = content
                .chunks(len)
                .map(|chunk| definite(OCTET_STRING, &[chunk]))
                .collect();
            (
                indefinite as Encode,
                indefinite(CONTEXT_0 | CONSTRUCTED, &[&chunks.concat()]),
            )
        }
    };
    let content = outer(SEQUENCE, &[&DATA, &cipher, &content]);
    let enveloped = outer(
        SEQUENCE,
        &[
            &definite(INTEGER, &[&[2]]),
            &definite(SET, &[&recipient]),
            &content,
        ],
    );
    outer(
        SEQUENCE,
        &[
            &ENVELOPED_DATA,
            &outer(CONTEXT_0 | CONSTRUCTED, &[&enveloped]),
        ],
    )
}

/// Encodes an element with a tag and contents.
type Encode = fn(u8, &[&[u8]]) -> Vec<u8>;

/// Tag, length in as few bytes as it takes, contents.
fn definite(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let length: usize = contents.iter().map(|part| part.len()).sum();
    let bytes = length.to_be_bytes();
    let significant = &bytes[bytes.iter().take_while(|&&byte| byte == 0).count()..];
    let mut encoded = vec![tag];
    match significant {
        [] => encoded.push(0),
        &[short @ 0..0x80] => encoded.push(short),
        long => {
            // At most eight bytes.
            encoded.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            encoded.extend(long);
        }
    }
    encoded.extend(contents.concat());
    encoded
}

/// Tag, indefinite length, contents, end-of-contents.
fn indefinite(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let mut encoded = vec![tag, 0x80];
    encoded.extend(contents.concat());
    encoded.extend([0, 0]);
    encoded
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0x80;
const CONSTRUCTED: u8 = 0x20;

/// 1.2.840.113549.1.7.3
const ENVELOPED_DATA: [u8; 11] = [
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03,
];
/// 1.2.840.113549.1.7.1
const DATA: [u8; 11] = [
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01,
];
/// 2.16.840.1.101.3.4.1.42
const AES_256_CBC: [u8; 11] = [
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a,
];
/// AlgorithmIdentifier of RSAES-OAEP (1.2.840.113549.1.1.7) with [0] SHA-256 and [1] MGF1 with
/// SHA-256, both with NULL parameters.
const RSAES_OAEP_SHA256: [u8; 62] = [
    0x30, 0x3c, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07, 0x30, 0x2f, 0xa0,
    0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30,
    0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure ends the test")]

    use std::fs;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;

    #[test]
    fn openssl_opens_what_we_make() {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let public: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        let private: Pkcs8V1Der<'_> = key.as_der().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let key_file = directory.path().join("key.der");
        fs::write(&key_file, private.as_ref()).unwrap();

        // None, one, several and just-filled chunks.
        let lengths = [0, 1, 15, 16, 32, 983, 984, 999, 1000, 1984, 2500, 70_000];
        let kms = lengths.map(|length| (length, Form::KMS));
        for (length, form) in kms
            .into_iter()
            .chain([(32, Form::Whole), (32, Form::Chunks(16))])
        {
            let plaintext: Vec<u8> = (0..=255).cycle().take(length).collect();
            let file = directory.path().join("message.ber");
            fs::write(&file, encrypt(public.as_ref(), &plaintext, form).unwrap()).unwrap();
            let opened = Command::new("openssl")
                .args([
                    "cms", "-decrypt", "-binary", "-inform", "DER", "-keyform", "DER", "-in",
                ])
                .arg(&file)
                .arg("-inkey")
                .arg(&key_file)
                .stderr(Stdio::inherit())
                .output()
                .expect("openssl is installed");
            assert!(
                opened.status.success() && opened.stdout == plaintext,
                "{length} bytes, {form:?}"
            );
        }
    }

    /// Byte for byte what KMS sent, given the same key identifier, wrapped key, IV and content.
    #[test]
    fn the_encoding_is_that_of_kms() {
        let sample = kms_sample();
        let (identifier, wrapped, iv, content) = (
            &sample[33..65],
            &sample[131..387],
            &sample[415..431],
            &sample[436..596],
        );
        assert_eq!(
            enveloped_data(identifier, wrapped, iv, content, Form::KMS),
            sample
        );
    }

    #[test]
    fn the_recipient_is_named_as_kms_names_it() {
        let sample = vector();
        let private = sample["rsa_2048_pkcs1_base64_public_test_key"]
            .as_str()
            .unwrap();
        let private = BASE64_STANDARD.decode(private).unwrap();
        let key = aws_lc_rs::rsa::KeyPair::from_der(&private).unwrap();
        let public: PublicKeyX509Der<'_> = aws_lc_rs::signature::KeyPair::public_key(&key)
            .as_der()
            .unwrap();
        assert_eq!(
            digest(&SHA256, public.as_ref()).as_ref(),
            &kms_sample()[33..65]
        );
    }

    #[test]
    fn only_rsa_keys_receive() {
        for key in [&b""[..], b"not a key", &[0x30, 0x80]] {
            assert!(encrypt(key, b"data key", Form::KMS).is_err());
        }
    }

    fn kms_sample() -> Vec<u8> {
        BASE64_STANDARD
            .decode(
                vector()["ciphertext_for_recipient_base64"]
                    .as_str()
                    .unwrap(),
            )
            .unwrap()
    }

    fn vector() -> serde_json::Value {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/vectors/cms/aws-kms-decrypt.json");
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    }
}
