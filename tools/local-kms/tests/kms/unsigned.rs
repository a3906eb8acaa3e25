//! Documents of the emulated NSM: accepted with the option only, and checked as far as signed ones
//! are.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa::{KeySize, PrivateDecryptingKey},
};
use ciborium::{Value, cbor};
use cloister_key_policy::Form;

use crate::{
    deployment::{FOREIGN, GENERATOR, SIGNER, policy},
    setup::{Harness, exception, recipient_info},
};

/// The contents of an emulator's document, to be changed by a test.
#[derive(Clone)]
struct Emulated {
    module_id: &'static str,
    time: SystemTime,
    pcr0: [u8; 48],
    public_key: Vec<u8>,
    protected: Vec<u8>,
    certificate: Vec<u8>,
    cabundle: Vec<u8>,
    signature: Vec<u8>,
}

impl Emulated {
    fn new(pcr0: [u8; 48]) -> Self {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let public_key: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        Self {
            module_id: "emulator-signer",
            time: SystemTime::now(),
            pcr0,
            public_key: public_key.as_ref().to_vec(),
            protected: vec![0xa1, 0x01, 0x20],
            certificate: vec![0; 64],
            cabundle: vec![0; 64],
            signature: vec![0; 64],
        }
    }

    /// As virtio-nsm.c writes it, member by member.
    fn document(self) -> Vec<u8> {
        let milliseconds =
            u64::try_from(self.time.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        let payload = cbor!({
            "module_id" => self.module_id,
            "digest" => "SHA384",
            "timestamp" => milliseconds,
            "pcrs" => { 0 => bytes(&self.pcr0), 1 => bytes(&[1; 48]), 2 => bytes(&[2; 48]) },
            "certificate" => bytes(&self.certificate),
            "cabundle" => [bytes(&self.cabundle)],
            "public_key" => bytes(&self.public_key),
            "user_data" => null,
            "nonce" => null,
        });
        let envelope = [
            bytes(&self.protected),
            Value::Map(Vec::new()),
            bytes(&encoded(&payload.unwrap())),
            bytes(&self.signature),
        ];
        encoded(&Value::Array(envelope.into()))
    }
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

/// The answer of GenerateDataKey to the generator's role with this document.
async fn answer(harness: &Harness, key: &str, document: Vec<u8>) -> String {
    let client = harness.client("key-generator");
    let call = client
        .generate_data_key()
        .key_id(key)
        .key_spec(aws_sdk_kms::types::DataKeySpec::Aes256);
    let call = call
        .encryption_context("app", "cloister")
        .encryption_context("purpose", "wallet");
    match call.recipient(recipient_info(document)).send().await {
        Ok(reply) => {
            assert!(reply.plaintext.is_none() && reply.ciphertext_for_recipient.is_some());
            "data key".to_owned()
        }
        error => exception(error),
    }
}

#[tokio::test]
async fn nobody_believes_them_without_being_told_to() {
    let harness = Harness::start();
    let key = harness.create_key(&policy(Form::Locked)).await;
    assert_eq!(
        answer(&harness, &key, Emulated::new(GENERATOR).document()).await,
        "ValidationException"
    );
}

#[tokio::test]
async fn they_are_held_to_policy_time_and_form() {
    let harness = Harness::start_believing_unsigned(true);
    let key = harness.create_key(&policy(Form::Locked)).await;
    let genuine = Emulated::new(GENERATOR);
    assert_eq!(
        answer(&harness, &key, genuine.clone().document()).await,
        "data key"
    );
    for image in [SIGNER, FOREIGN, [0; 48]] {
        assert_eq!(
            answer(&harness, &key, Emulated::new(image).document()).await,
            "AccessDeniedException"
        );
    }
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    for (what, changed) in [
        (
            "old",
            Emulated {
                time: genuine.time - minutes(6),
                ..genuine.clone()
            },
        ),
        (
            "from the future",
            Emulated {
                time: genuine.time + minutes(2),
                ..genuine.clone()
            },
        ),
        (
            "without a key",
            Emulated {
                public_key: Vec::new(),
                ..genuine.clone()
            },
        ),
        (
            "another module's",
            Emulated {
                module_id: "i-0123456789abcdef0-enc0123",
                ..genuine.clone()
            },
        ),
        (
            "ES384",
            Emulated {
                protected: vec![0xa1, 0x01, 0x38, 0x22],
                ..genuine.clone()
            },
        ),
        (
            "with a byte of signature",
            Emulated {
                signature: with_a_byte(),
                ..genuine.clone()
            },
        ),
        (
            "with a byte of certificate",
            Emulated {
                certificate: with_a_byte(),
                ..genuine.clone()
            },
        ),
        (
            "with a byte of chain",
            Emulated {
                cabundle: with_a_byte(),
                ..genuine.clone()
            },
        ),
    ] {
        assert_eq!(
            answer(&harness, &key, changed.document()).await,
            "ValidationException",
            "{what}"
        );
    }
    let trailing = [genuine.document(), vec![0]].concat();
    assert_eq!(
        answer(&harness, &key, trailing).await,
        "ValidationException"
    );
}

#[tokio::test]
async fn signed_ones_are_believed_beside_them() {
    let harness = Harness::start_believing_unsigned(true);
    let key = harness.create_key(&policy(Form::Locked)).await;
    let signed = |image| {
        harness
            .enclave(image)
            .recipient()
            .attestation_document
            .unwrap()
            .into_inner()
    };
    assert_eq!(answer(&harness, &key, signed(GENERATOR)).await, "data key");
    assert_eq!(
        answer(&harness, &key, signed(FOREIGN)).await,
        "AccessDeniedException"
    );
}

fn with_a_byte() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[40] = 1;
    bytes
}
