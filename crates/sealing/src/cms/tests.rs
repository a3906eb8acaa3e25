use std::path::Path;
use std::process::Command;

use aws_lc_rs::encoding::Pkcs8V1Der;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloister_kms_envelope::{Form, encrypt};
use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// Each file of tests/vectors/cms except the sample itself.
const ACCEPTED: &[&str] = &[
    "accepted-definite-chunks",
    "accepted-der",
    "accepted-empty-chunk",
    "accepted-hash-without-null",
    "accepted-indefinite-throughout",
    "accepted-key-identifier-20",
    "accepted-many-chunks",
];
const REFUSED: &[&str] = &[
    "refused-aes-128",
    "refused-aes-gcm",
    "refused-attributes",
    "refused-authenticated-data",
    "refused-content-empty",
    "refused-content-missing",
    "refused-content-nested-chunks",
    "refused-content-not-blocks",
    "refused-content-primitive-indefinite",
    "refused-content-twice",
    "refused-content-type-not-data",
    "refused-empty",
    "refused-encrypted-key-chunked",
    "refused-encrypted-key-flipped",
    "refused-encrypted-key-long",
    "refused-encrypted-key-short",
    "refused-iv-short",
    "refused-key-identifier-empty",
    "refused-key-identifier-long",
    "refused-length-four-bytes",
    "refused-length-not-shortest",
    "refused-length-too-long",
    "refused-message-too-long",
    "refused-missing-end-of-contents",
    "refused-no-recipient",
    "refused-oaep-defaults",
    "refused-oaep-label",
    "refused-oaep-mgf1-sha1",
    "refused-oaep-no-mgf",
    "refused-oaep-sha1",
    "refused-originator",
    "refused-padding-cut",
    "refused-padding-wrong",
    "refused-pkcs1-v15",
    "refused-recipient-extra",
    "refused-recipient-issuer",
    "refused-recipient-kek",
    "refused-recipient-key-agreement",
    "refused-recipient-version-0",
    "refused-signed-data",
    "refused-trailing-byte",
    "refused-trailing-end-of-contents",
    "refused-truncated",
    "refused-truncated-content",
    "refused-two-recipients",
    "refused-version-0",
    "refused-version-padded",
];

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/cms");

/// A real message of KMS, with its (public) key.
#[derive(Deserialize)]
struct Sample {
    ciphertext_for_recipient_base64: String,
    rsa_2048_pkcs1_base64_public_test_key: String,
    plaintext_json: serde_json::Value,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    message_base64: String,
    error: Option<String>,
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(format!("{VECTORS}/{name}.json")).unwrap()).unwrap()
}

impl Sample {
    fn load() -> Self {
        read("aws-kms-decrypt")
    }

    fn message(&self) -> Vec<u8> {
        STANDARD
            .decode(&self.ciphertext_for_recipient_base64)
            .unwrap()
    }

    fn key(&self) -> RecipientKey {
        let pkcs1 = STANDARD
            .decode(&self.rsa_2048_pkcs1_base64_public_test_key)
            .unwrap();
        // PrivateKeyInfo { version 0, rsaEncryption, OCTET STRING { RSAPrivateKey } } (RFC 5208
        // §5).
        let header =
            const_hex::decode("308204be020100300d06092a864886f70d0101010500048204a8").unwrap();
        assert_eq!(pkcs1.len(), 0x4a8);
        RecipientKey::from_pkcs8(&[header, pkcs1].concat()).unwrap()
    }

    fn assert_content(&self, content: &[u8]) {
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(content).unwrap(),
            self.plaintext_json
        );
    }
}

#[test]
fn what_aws_kms_really_sent() {
    let sample = Sample::load();
    sample.assert_content(&unwrap(&sample.key(), &sample.message()).unwrap());
}

/// The path of data keys lets nothing through that is not 32 bytes: not even what KMS really sent
/// for something else.
#[test]
fn only_data_keys_come_out_of_the_kms_path() {
    let sample = Sample::load();
    assert_eq!(
        unwrap_data_key(&sample.key(), &sample.message()).err(),
        Some(CmsError::ContentLength)
    );
    for length in [0, 16, 31, 33, 64] {
        let message =
            encrypt(SHARED.public_key_der(), &vec![7; length], Form::Chunks(100)).unwrap();
        assert_eq!(
            unwrap_data_key(&SHARED, &message).err(),
            Some(CmsError::ContentLength),
            "{length}"
        );
    }
}

#[test]
fn every_vector_is_listed() {
    let mut files: Vec<_> = std::fs::read_dir(VECTORS)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    files.sort();
    let listed = [ACCEPTED, &["aws-kms-decrypt"], REFUSED].concat();
    assert_eq!(files, listed);
}

#[test]
fn other_encodings_of_the_same_shape_are_accepted() {
    let sample = Sample::load();
    let key = sample.key();
    for name in ACCEPTED {
        let vector: Vector = read(name);
        let content = unwrap(&key, &STANDARD.decode(&vector.message_base64).unwrap());
        sample.assert_content(&content.unwrap_or_else(|error| panic!("{}: {error}", vector.name)));
    }
}

#[test]
fn other_shapes_are_refused() {
    let key = Sample::load().key();
    for name in REFUSED {
        let vector: Vector = read(name);
        let error = unwrap(&key, &STANDARD.decode(&vector.message_base64).unwrap()).err();
        assert_eq!(
            error.map(|error| error.to_string()),
            vector.error,
            "{name}: {}",
            vector.name
        );
    }
}

/// A reader that indexes into the parsed tree would panic on messages of another shape.
#[test]
fn malformed_cms_is_an_error_and_no_panic() {
    let sample = Sample::load();
    let (key, message) = (sample.key(), sample.message());
    for end in 0..message.len() {
        assert!(unwrap(&key, &message[..end]).is_err(), "cut at {end}");
    }
    // Any single byte changed in the structure is refused; in identifier, key, IV or ciphertext the
    // result differs.
    for place in 0..message.len() {
        let mut changed = message.clone();
        changed[place] ^= 0x01;
        let _ = unwrap(&key, &changed);
    }
}

/// OpenSSL as the other side: an implementation that shares nothing with ours and writes BER the
/// way KMS does.
#[test]
fn what_openssl_encrypts() {
    let directory = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&directory)
            .output();
        let output = output.expect("the test needs `openssl` 1.1.1 or later");
        assert!(
            output.status.success(),
            "{arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out certificate.pem -subj /CN=test -days 1 \
         -addext subjectKeyIdentifier=hash",
    );
    openssl("pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out key.der");
    let file = |name: &str| std::fs::read(Path::new(directory.path()).join(name)).unwrap();
    let key = RecipientKey::from_pkcs8(&file("key.der")).unwrap();

    // A stream goes into chunks of up to 4 096 bytes and one for the padding.
    for length in [0, 1, 15, 16, 17, 32, 160, 5000] {
        let content: Vec<u8> = (0..length)
            .map(|place| u8::try_from(place % 251).unwrap())
            .collect();
        std::fs::write(directory.path().join("content"), &content).unwrap();
        for form in ["-stream ", ""] {
            openssl(&format!(
                "cms -encrypt -binary {form}-outform DER -keyid -aes256 -in content -out message -recip certificate.pem \
                 -keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256 -keyopt rsa_mgf1_md:sha256"
            ));
            let message = file("message");
            assert_eq!(
                message.starts_with(&[0x30, 0x80]),
                !form.is_empty(),
                "BER exactly when streaming"
            );
            assert_eq!(
                *unwrap(&key, &message).unwrap(),
                content,
                "{length} bytes {form}"
            );
        }
    }
}

/// And the other way round: OpenSSL reads what the test double of KMS writes.
#[test]
fn openssl_decrypts_what_the_fake_kms_sends() {
    let directory = tempfile::tempdir().unwrap();
    let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let pkcs8: Pkcs8V1Der<'_> = private.as_der().unwrap();
    std::fs::write(directory.path().join("key.der"), pkcs8.as_ref()).unwrap();
    let public: PublicKeyX509Der<'_> = private.public_key().as_der().unwrap();
    for form in [Form::Chunks(16), Form::Chunks(100), Form::Whole] {
        std::fs::write(
            directory.path().join("message"),
            encrypt(public.as_ref(), &[7; 32], form).unwrap(),
        )
        .unwrap();
        let output = Command::new("openssl")
            .args([
                "cms", "-decrypt", "-binary", "-inform", "DER", "-in", "message", "-keyform",
                "DER", "-inkey", "key.der",
            ])
            .current_dir(&directory)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.stdout, [7; 32]);
    }
}

#[test]
fn padding() {
    let block = |end: &[u8]| [&[0xaa; 16][..], &vec![0xbb; 16 - end.len()], end].concat();
    let removed = |end: &[u8]| {
        let mut content = block(end);
        remove_padding(&mut content).map(|()| content.len())
    };
    for padding in 1..=16u8 {
        assert_eq!(
            removed(&vec![padding; padding.into()]),
            Ok(32 - usize::from(padding))
        );
        for wrong in 0..usize::from(padding) - 1 {
            let mut end = vec![padding; padding.into()];
            end[wrong] ^= 1;
            assert_eq!(removed(&end), Err(CmsError::Decryption), "{end:?}");
        }
    }
    for last in [0, 17, 32, 0x80, 0xff] {
        assert_eq!(removed(&[last]), Err(CmsError::Decryption), "{last}");
        assert_eq!(removed(&[last; 16]), Err(CmsError::Decryption), "{last}");
    }
    assert_eq!(remove_padding(&mut vec![1; 15]), Err(CmsError::Decryption));
}

/// One key for all cases of the property tests.
static SHARED: std::sync::LazyLock<RecipientKey> =
    std::sync::LazyLock::new(|| RecipientKey::generate().unwrap());

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        prop_assert!(unwrap(&SHARED, &bytes).is_err());
    }

    #[test]
    fn mutations_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        (cut, paste, length) in any::<(prop::sample::Index, prop::sample::Index, u8)>(),
    ) {
        let mut message = encrypt(SHARED.public_key_der(), &[7; 32], Form::Chunks(16)).unwrap();
        for (place, byte) in edits {
            let place = place.index(message.len());
            message[place] = byte;
        }
        let from = cut.index(message.len());
        let piece = message[from..(from + usize::from(length)).min(message.len())].to_vec();
        let at = paste.index(message.len());
        message.splice(at..at, piece);
        let _ = unwrap_data_key(&SHARED, &message);
    }

    #[test]
    fn contents_of_every_length_round_trip(content in proptest::collection::vec(any::<u8>(), 0..200), chunk in 1usize..64) {
        for form in [Form::Chunks(chunk), Form::Whole] {
            let message = encrypt(SHARED.public_key_der(), &content, form).unwrap();
            prop_assert_eq!(&*unwrap(&SHARED, &message).unwrap(), &content);
        }
    }
}
