use cloister_protocol::{Code, Rejection};
use serde_json::{Value, json};

use super::*;
use crate::fake_kms::{ARN, FakeKms, claim};

#[tokio::test]
async fn a_data_key_is_made_and_opened_again() {
    let fake = FakeKms::new();
    let kms = fake.attested(Service::KeyGenerator).await;
    let fresh = kms.generate_data_key().await.unwrap();
    let made = fresh.as_data_key();
    let opened = kms
        .decrypt_data_key(made.wrapped(), made.id())
        .await
        .unwrap();
    assert_eq!(opened.expose(), made.expose());
    assert_eq!((opened.id(), opened.cmk_arn()), (made.id(), ARN));

    let another = kms.generate_data_key().await.unwrap();
    assert_ne!(another.as_data_key().id(), made.id());
    assert_ne!(another.as_data_key().expose(), made.expose());
}

#[tokio::test]
async fn what_is_asked() {
    use base64::Engine as _;

    let fake = FakeKms::new();
    let kms = fake.attested(Service::KeyGenerator).await;
    let made = kms.generate_data_key().await.unwrap();
    let made = made.as_data_key();
    kms.decrypt_data_key(made.wrapped(), made.id())
        .await
        .unwrap();

    let context = json!({
        "app": "cloister", "v": "1", "purpose": "wallet", "service": "key-generator", "dek_id": made.id().to_string(),
    });
    assert_eq!(made.id().to_string().len(), 32);
    let [generate] = &fake.calls("GenerateDataKey")[..] else {
        panic!()
    };
    let [decrypt] = &fake.calls("Decrypt")[..] else {
        panic!()
    };
    for call in [generate, decrypt] {
        assert_eq!(call["KeyId"], ARN);
        assert_eq!(call["EncryptionContext"], context);
        let document = call["Recipient"]["AttestationDocument"].as_str().unwrap();
        let document = base64::engine::general_purpose::STANDARD
            .decode(document)
            .unwrap();
        assert_eq!(claim(&document, "user_data"), b"kms");
    }
    assert_eq!(generate["KeySpec"], "AES_256");
    assert_eq!(decrypt["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT");
    assert!(generate.get("GrantTokens").is_none() && decrypt.get("GrantTokens").is_none());
}

#[tokio::test]
async fn a_signer_makes_no_data_keys() {
    let fake = FakeKms::new();
    let kms = fake.attested(Service::Signer).await;
    assert_eq!(kms.generate_data_key().await.err(), Some(KmsError::Denied));
    assert!(fake.calls("GenerateDataKey").is_empty());
}

#[tokio::test]
async fn a_data_key_under_another_name_is_not_ours() {
    let fake = FakeKms::new();
    let kms = fake.attested(Service::KeyGenerator).await;
    let made = kms.generate_data_key().await.unwrap();
    let made = made.as_data_key();
    let other = DekId::from_bytes([0; 16]);
    assert_eq!(
        kms.decrypt_data_key(made.wrapped(), other).await.err(),
        Some(KmsError::UnknownDataKey)
    );
    assert_eq!(
        kms.decrypt_data_key(&[1; 184], made.id()).await.err(),
        Some(KmsError::UnknownDataKey)
    );
    assert_eq!(
        Rejection::from(KmsError::UnknownDataKey).code,
        Code::SealedRowRefused
    );
}

type Change = fn(&mut Value);

/// The traps of replies: a KMS, or something in its place, that ignores the recipient.
#[tokio::test]
async fn replies_that_an_attested_call_may_not_get() {
    let fake = FakeKms::new();
    let kms = fake.attested(Service::KeyGenerator).await;
    let made = kms.generate_data_key().await.unwrap();
    let made = made.as_data_key();

    let changes: [(&str, Change); 8] = [
        ("a plaintext beside the ciphertext", |reply| {
            reply["Plaintext"] = json!("AAAA")
        }),
        ("a plaintext instead of the ciphertext", |reply| {
            reply["Plaintext"] = json!("AAAA");
            reply
                .as_object_mut()
                .unwrap()
                .remove("CiphertextForRecipient");
        }),
        ("no ciphertext", |reply| {
            reply
                .as_object_mut()
                .unwrap()
                .remove("CiphertextForRecipient");
        }),
        ("an empty ciphertext", |reply| {
            reply["CiphertextForRecipient"] = json!("")
        }),
        ("a ciphertext that is not CMS", |reply| {
            reply["CiphertextForRecipient"] = json!("AAAA")
        }),
        ("another key", |reply| {
            reply["KeyId"] = json!(ARN.replace("1234abcd", "ffffabcd"))
        }),
        ("a bare key id", |reply| {
            reply["KeyId"] = json!("1234abcd-12ab-34cd-56ef-1234567890ab")
        }),
        ("no key", |reply| {
            reply.as_object_mut().unwrap().remove("KeyId");
        }),
    ];
    for (what, change) in changes {
        fake.tamper(move |_, _, reply| change(reply));
        let generated = kms.generate_data_key().await.map(drop);
        assert!(
            matches!(generated, Err(KmsError::ReplyRefused(_))),
            "{what}: {generated:?}"
        );
        let decrypted = kms
            .decrypt_data_key(made.wrapped(), made.id())
            .await
            .map(drop);
        assert!(
            matches!(decrypted, Err(KmsError::ReplyRefused(_))),
            "{what}: {decrypted:?}"
        );
    }
    for wrapped in [json!(""), Value::Null, json!("A".repeat(8196))] {
        fake.tamper(move |_, _, reply| reply["CiphertextBlob"] = wrapped.clone());
        assert!(matches!(
            kms.generate_data_key().await,
            Err(KmsError::ReplyRefused(_))
        ));
    }
    fake.be_honest();
    kms.decrypt_data_key(made.wrapped(), made.id())
        .await
        .unwrap();
}

#[tokio::test]
async fn errors_are_sorted_by_who_has_to_act() {
    let fake = FakeKms::new();
    let kms = fake.attested(Service::KeyGenerator).await;
    for (status, name, expected, calls) in [
        (400, "AccessDeniedException", KmsError::Denied, 1),
        (400, "DisabledException", KmsError::Denied, 1),
        (400, "KMSInvalidStateException", KmsError::Denied, 1),
        (400, "NotFoundException", KmsError::Denied, 1),
        (400, "ValidationException", KmsError::Denied, 1),
        (400, "UnrecognizedClientException", KmsError::Denied, 1),
        (
            400,
            "InvalidCiphertextException",
            KmsError::UnknownDataKey,
            1,
        ),
        (400, "IncorrectKeyException", KmsError::UnknownDataKey, 1),
        (400, "ThrottlingException", KmsError::Throttled, 3),
        (403, "RequestTimeTooSkewed", KmsError::ClockSkewed, 3),
        (
            400,
            "ExpiredTokenException",
            KmsError::CredentialsExpired,
            3,
        ),
        (500, "KMSInternalException", KmsError::Unavailable, 3),
        (503, "", KmsError::Unavailable, 3),
    ] {
        fake.tamper(move |_, answered, reply| {
            *answered = status;
            *reply = json!({ "__type": name, "message": "words of AWS" });
        });
        let before = fake.calls("Decrypt").len();
        let error = kms
            .decrypt_data_key(&[1], DekId::from_bytes([0; 16]))
            .await
            .unwrap_err();
        assert_eq!(error, expected, "{name}");
        assert_eq!(
            fake.calls("Decrypt").len() - before,
            calls,
            "calls after {name}"
        );
        assert!(!Rejection::from(error).error.contains("words"));
    }
}

/// A proxy or a load balancer that answers in the place of KMS: a string is sent as it is.
#[tokio::test]
async fn bodies_that_are_not_json_have_a_reason_each() {
    let not_a_reply = KmsError::ReplyRefused("not a reply");
    let html = "<html><body>words of a proxy</body></html>";
    let fake = FakeKms::new();
    let kms = fake.attested(Service::KeyGenerator).await;
    for (status, body, expected, code, calls) in [
        (200, "not JSON", not_a_reply, Code::KmsReplyRefused, 1),
        (200, html, not_a_reply, Code::KmsReplyRefused, 1),
        (403, html, not_a_reply, Code::KmsReplyRefused, 1),
        (403, "", not_a_reply, Code::KmsReplyRefused, 1),
        (429, "", KmsError::Throttled, Code::KmsUnavailable, 3),
        (429, html, KmsError::Throttled, Code::KmsUnavailable, 3),
        (503, html, KmsError::Unavailable, Code::KmsUnavailable, 3),
    ] {
        fake.tamper(move |_, answered, reply| {
            *answered = status;
            *reply = Value::String(body.into());
        });
        let before = fake.calls("Decrypt").len();
        let error = kms
            .decrypt_data_key(&[1], DekId::from_bytes([0; 16]))
            .await
            .unwrap_err();
        assert_eq!(error, expected, "{status} {body}");
        assert_eq!(
            fake.calls("Decrypt").len() - before,
            calls,
            "{status} {body}"
        );
        let rejection = Rejection::from(error);
        assert_eq!(rejection.code, code, "{status} {body}");
        assert!(!rejection.error.contains("words"));
    }
}

#[tokio::test]
async fn a_new_client_has_to_see_the_adopted_key() {
    let fake = FakeKms::new();
    let kms = fake.attested(Service::KeyGenerator).await;

    let foreign = FakeKms::new();
    foreign.tamper(|_, status, reply| {
        *status = 400;
        *reply = json!({ "__type": "AccessDeniedException" });
    });
    assert_eq!(
        kms.replace_client(foreign.client()).await,
        Err(KmsError::Denied)
    );
    foreign.tamper(|_, _, reply| {
        reply["KeyMetadata"]["Arn"] = json!("arn:aws:kms:eu-central-1:1:key/x")
    });
    assert!(matches!(
        kms.replace_client(foreign.client()).await,
        Err(KmsError::ReplyRefused(_))
    ));
    kms.generate_data_key().await.unwrap();
    assert_eq!(
        (
            fake.calls("GenerateDataKey").len(),
            foreign.calls("GenerateDataKey").len()
        ),
        (1, 0)
    );

    let renewed = FakeKms::new();
    kms.replace_client(renewed.client()).await.unwrap();
    kms.generate_data_key().await.unwrap();
    assert_eq!(
        (
            fake.calls("GenerateDataKey").len(),
            renewed.calls("GenerateDataKey").len()
        ),
        (1, 1)
    );
}

/// Neither the text of an AWS error nor a key that a KMS which ignores the recipient would send in
/// the clear reaches the log, whether the SDK can read the reply or not.
#[tokio::test]
async fn the_log_has_codes_and_request_ids_and_nothing_else_of_a_reply() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(log.clone())
        .finish();
    let fake = FakeKms::new();
    let kms = fake.attested(Service::KeyGenerator).await;
    // The test runs on this thread alone, so that everything from here on goes into this log.
    let _guard = tracing::subscriber::set_default(subscriber);

    let key = "c2VjcmV0IGtleSBpbiB0aGUgY2xlYXI=";
    let readable = json!({ "KeyId": ARN, "Plaintext": key });
    let truncated = readable.to_string().replace('}', "");
    for reply in [
        readable,
        Value::String(truncated),
        Value::String(format!("\"{key}\"")),
    ] {
        fake.tamper(move |_, status, answer| (*status, *answer) = (200, reply.clone()));
        assert!(matches!(
            kms.generate_data_key().await,
            Err(KmsError::ReplyRefused(_))
        ));
    }
    // A test beside this one may have met a place of logging for the first time while there was no
    // log, and switched it off for all.
    tracing::callsite::rebuild_interest_cache();
    fake.tamper(|_, status, answer| {
        (*status, *answer) = (
            400,
            json!({
                "__type": "AccessDeniedException",
                "message": "words of AWS: x-amz-security-token:IQoJ",
            }),
        );
    });
    assert_eq!(kms.generate_data_key().await.err(), Some(KmsError::Denied));

    let log = log.text();
    for field in ["AccessDeniedException", "kms_call_failed", "request-1"] {
        assert!(log.contains(field), "{field}: {log}");
    }
    let bytes = "[115, 101, 99, 114, 101, 116";
    for secret in [
        key,
        "secret key in the clear",
        bytes,
        "words of AWS",
        "IQoJ",
    ] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
