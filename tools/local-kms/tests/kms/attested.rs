//! Data keys for measured enclaves only.

use aws_sdk_kms::{
    Client,
    primitives::Blob,
    types::{DataKeySpec, RecipientInfo},
};
use cloister_key_policy::Form;
use cloister_nsm_software::Pki;

use crate::{
    deployment::{DEBUG, FOREIGN, GENERATOR, SIGNER, policy},
    setup::{Enclave, Harness, exception, recipient_info},
};

/// A KMS with a locked key and a data key of the generator's.
struct Sealed {
    harness: Harness,
    key: String,
    wrapped: Blob,
    data_key: Vec<u8>,
}

impl Sealed {
    async fn new() -> Self {
        let harness = Harness::start();
        let key = harness.create_key(&policy(Form::Locked)).await;
        let generator = harness.enclave(GENERATOR);
        let reply = generate(
            &harness.client("key-generator"),
            &key,
            "wallet",
            Some(generator.recipient()),
        )
        .await
        .unwrap();
        assert_eq!(reply.key_id.as_deref(), Some(key.as_str()));
        assert!(
            reply
                .plaintext
                .is_none_or(|plaintext| plaintext.as_ref().is_empty())
        );
        let data_key = generator.open(&reply.ciphertext_for_recipient.unwrap());
        assert_eq!(data_key.len(), 32);
        Self {
            harness,
            key,
            wrapped: reply.ciphertext_blob.unwrap(),
            data_key,
        }
    }

    async fn decrypt(
        &self,
        role: &str,
        purpose: &str,
        recipient: Option<RecipientInfo>,
    ) -> Result<Blob, String> {
        let sent = self
            .harness
            .client(role)
            .decrypt()
            .key_id(&self.key)
            .ciphertext_blob(self.wrapped.clone())
            .encryption_context("app", "cloister")
            .encryption_context("purpose", purpose)
            .set_recipient(recipient)
            .send()
            .await;
        match sent {
            Ok(reply) => {
                assert!(
                    reply
                        .plaintext
                        .is_none_or(|plaintext| plaintext.as_ref().is_empty())
                );
                assert_eq!(reply.key_id.as_deref(), Some(self.key.as_str()));
                Ok(reply.ciphertext_for_recipient.unwrap())
            }
            error => Err(exception(error)),
        }
    }

    async fn refused(&self, role: &str, purpose: &str, recipient: Option<RecipientInfo>) -> String {
        self.decrypt(role, purpose, recipient).await.unwrap_err()
    }
}

async fn generate(
    client: &Client,
    key: &str,
    purpose: &str,
    recipient: Option<RecipientInfo>,
) -> Result<aws_sdk_kms::operation::generate_data_key::GenerateDataKeyOutput, String> {
    let sent = client
        .generate_data_key()
        .key_id(key)
        .key_spec(DataKeySpec::Aes256)
        .encryption_context("app", "cloister")
        .encryption_context("purpose", purpose)
        .set_recipient(recipient)
        .send()
        .await;
    match sent {
        Ok(reply) => Ok(reply),
        error => Err(exception(error)),
    }
}

#[tokio::test]
async fn the_measured_enclaves_open() {
    let sealed = Sealed::new().await;
    for (role, image) in [("signer", SIGNER), ("key-generator", GENERATOR)] {
        let enclave = sealed.harness.enclave(image);
        let opened = sealed
            .decrypt(role, "wallet", Some(enclave.recipient()))
            .await
            .unwrap();
        assert_eq!(enclave.open(&opened), sealed.data_key, "{role}");
    }
}

#[tokio::test]
async fn other_images_roles_and_purposes_do_not() {
    let sealed = Sealed::new().await;
    let recipient = |image| Some(sealed.harness.enclave(image).recipient());
    for (role, purpose, recipient) in [
        ("signer", "wallet", recipient(FOREIGN)),
        ("signer", "wallet", recipient(DEBUG)),
        ("signer", "wallet", recipient(GENERATOR)),
        ("signer", "wallet", None),
        ("signer", "backup", recipient(SIGNER)),
        ("key-generator", "wallet", recipient(SIGNER)),
        ("front-door", "wallet", recipient(SIGNER)),
        ("administrator", "wallet", recipient(SIGNER)),
        ("administrator", "wallet", None),
    ] {
        assert_eq!(
            sealed.refused(role, purpose, recipient).await,
            "AccessDeniedException",
            "{role} {purpose}"
        );
    }
    sealed.harness.files.write_principals(&["stranger"]);
    assert_eq!(
        sealed
            .refused("stranger", "wallet", recipient(SIGNER))
            .await,
        "AccessDeniedException"
    );
}

#[tokio::test]
async fn only_the_generator_generates() {
    let sealed = Sealed::new().await;
    let recipient = |image| Some(sealed.harness.enclave(image).recipient());
    for (role, recipient) in [
        ("signer", recipient(SIGNER)),
        ("key-generator", recipient(FOREIGN)),
        ("key-generator", recipient(DEBUG)),
        ("key-generator", None),
    ] {
        let refused = generate(
            &sealed.harness.client(role),
            &sealed.key,
            "wallet",
            recipient,
        )
        .await
        .unwrap_err();
        assert_eq!(refused, "AccessDeniedException", "{role}");
    }
}

#[tokio::test]
async fn documents_are_verified() {
    let sealed = Sealed::new().await;
    let signer = sealed.harness.enclave(SIGNER);
    let genuine = signer.recipient();
    let document = genuine.attestation_document.clone().unwrap().into_inner();

    let foreign_root = Enclave::new(&Pki::generate().unwrap(), SIGNER).recipient();
    assert_eq!(
        sealed.refused("signer", "wallet", Some(foreign_root)).await,
        "ValidationException"
    );
    for position in [0, document.len() / 2, document.len() - 1] {
        let mut changed = document.clone();
        changed[position] ^= 1;
        let refused = sealed
            .refused("signer", "wallet", Some(recipient_info(changed)))
            .await;
        assert_eq!(refused, "ValidationException", "byte {position}");
    }
    let cut = recipient_info(document[..document.len() - 1].to_vec());
    assert_eq!(
        sealed.refused("signer", "wallet", Some(cut)).await,
        "ValidationException"
    );
    for key in [None, Some(b"not a key".to_vec())] {
        let refused = sealed
            .refused("signer", "wallet", Some(signer.recipient_with_key(key)))
            .await;
        assert_eq!(refused, "ValidationException");
    }

    sealed.harness.let_time_pass(4 * 60);
    assert!(
        sealed
            .decrypt("signer", "wallet", Some(genuine.clone()))
            .await
            .is_ok()
    );
    sealed.harness.let_time_pass(61);
    assert_eq!(
        sealed.refused("signer", "wallet", Some(genuine)).await,
        "ValidationException"
    );
}

#[tokio::test]
async fn ciphertexts_are_bound_to_key_and_context() {
    let sealed = Sealed::new().await;
    let signer = sealed.harness.enclave(SIGNER);
    let client = sealed.harness.client("signer");
    let other_key = sealed.harness.create_key(&policy(Form::Locked)).await;
    let decrypt = || {
        let call = client
            .decrypt()
            .ciphertext_blob(sealed.wrapped.clone())
            .recipient(signer.recipient());
        call.encryption_context("app", "cloister")
            .encryption_context("purpose", "wallet")
    };
    assert!(decrypt().send().await.is_ok());
    assert_eq!(
        exception(decrypt().key_id(&other_key).send().await),
        "IncorrectKeyException"
    );
    assert_eq!(
        exception(decrypt().key_id("nothing").send().await),
        "NotFoundException"
    );
    assert_eq!(
        exception(decrypt().encryption_context("app", "other").send().await),
        "InvalidCiphertextException"
    );
    assert_eq!(
        exception(decrypt().encryption_context("more", "").send().await),
        "InvalidCiphertextException"
    );
    assert_eq!(
        exception(
            decrypt()
                .encryption_context("Purpose", "wallet")
                .send()
                .await
        ),
        "ValidationException"
    );
    // Within the policy, but not what the data key was made for.
    assert_eq!(
        exception(
            decrypt()
                .encryption_context("purpose", "request-key")
                .send()
                .await
        ),
        "InvalidCiphertextException"
    );
    for position in [0, 5, 20, sealed.wrapped.as_ref().len() - 1] {
        let mut changed = sealed.wrapped.as_ref().to_vec();
        changed[position] ^= 1;
        let refused = decrypt().ciphertext_blob(Blob::new(changed)).send().await;
        assert_eq!(
            exception(refused),
            "InvalidCiphertextException",
            "byte {position}"
        );
    }
}
