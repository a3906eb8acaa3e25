//! The key's own policy decides every call.

use aws_sdk_kms::primitives::Blob;
use cloister_key_policy::Form;

use crate::{
    deployment::policy,
    setup::{Harness, exception},
};

#[tokio::test]
async fn a_locked_key_can_be_read_and_retired_and_nothing_else() {
    let harness = Harness::start();
    let key = harness.create_key(&policy(Form::Locked)).await;
    for role in ["signer", "administrator", "front-door"] {
        let client = harness.client(role);
        let described = client
            .describe_key()
            .key_id(&key)
            .send()
            .await
            .unwrap()
            .key_metadata
            .unwrap();
        assert_eq!(described.arn.as_deref(), Some(key.as_str()));
        assert_eq!(described.origin.unwrap().as_str(), "AWS_KMS");
        let read = client
            .get_key_policy()
            .key_id(&key)
            .send()
            .await
            .unwrap()
            .policy
            .unwrap();
        assert_eq!(read, policy(Form::Locked));
        assert!(
            client
                .list_grants()
                .key_id(&key)
                .send()
                .await
                .unwrap()
                .grants
                .unwrap_or_default()
                .is_empty()
        );
    }

    let administrator = harness.client("administrator");
    let put = administrator
        .put_key_policy()
        .key_id(&key)
        .policy(policy(Form::Open));
    assert_eq!(exception(put.send().await), "AccessDeniedException");
    let encrypt = administrator
        .encrypt()
        .key_id(&key)
        .plaintext(Blob::new("planted"));
    assert_eq!(exception(encrypt.send().await), "AccessDeniedException");
    let grant = administrator
        .create_grant()
        .key_id(&key)
        .grantee_principal("arn:aws:iam::111122223333:role/x");
    assert_eq!(
        exception(grant.operations("Decrypt".into()).send().await),
        "AccessDeniedException"
    );
    assert_eq!(
        exception(administrator.disable_key().key_id(&key).send().await),
        "AccessDeniedException"
    );
    let pair = administrator
        .generate_data_key_pair()
        .key_id(&key)
        .key_pair_spec("RSA_2048".into());
    assert_eq!(exception(pair.send().await), "AccessDeniedException");
    // Allowed by the policy, not performed here.
    let rotation = administrator.enable_key_rotation().key_id(&key);
    assert_eq!(
        exception(rotation.send().await),
        "UnsupportedOperationException"
    );
}

#[tokio::test]
async fn an_open_key_takes_a_new_policy_from_the_administrator_only() {
    let harness = Harness::start();
    let key = harness.create_key(&policy(Form::Open)).await;
    let lock = |role: &str, bypass: bool| {
        let call = harness
            .client(role)
            .put_key_policy()
            .key_id(&key)
            .policy(policy(Form::Locked));
        call.bypass_policy_lockout_safety_check(bypass).send()
    };
    assert_eq!(
        exception(lock("key-generator", true).await),
        "AccessDeniedException"
    );
    assert_eq!(
        exception(lock("administrator", false).await),
        "MalformedPolicyDocumentException"
    );
    lock("administrator", true).await.unwrap();
    assert_eq!(
        exception(lock("administrator", true).await),
        "AccessDeniedException"
    );
}

#[tokio::test]
async fn a_policy_that_cannot_be_decided_is_refused_when_it_is_set() {
    let harness = Harness::start();
    let administrator = harness.client("administrator");
    for policy in [
        "{}".to_owned(),
        policy(Form::Locked).replace("\"Action\"", "\"NotAction\""),
        policy(Form::Locked).replace("StringEqualsIgnoreCase", "StringLike"),
        policy(Form::Locked).replacen(
            "\"Effect\":\"Allow\"",
            "\"Effect\":\"Deny\",\"Effect\":\"Allow\"",
            1,
        ),
    ] {
        let created = administrator
            .create_key()
            .policy(&policy)
            .bypass_policy_lockout_safety_check(true)
            .send()
            .await;
        assert_eq!(
            exception(created),
            "MalformedPolicyDocumentException",
            "{policy}"
        );
    }
    let lockout = administrator
        .create_key()
        .policy(policy(Form::Locked))
        .send()
        .await;
    assert_eq!(exception(lockout), "MalformedPolicyDocumentException");
    assert!(
        administrator
            .create_key()
            .policy(policy(Form::Open))
            .send()
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn the_default_policy_lets_the_account_do_everything_unattested() {
    let harness = Harness::start();
    let client = harness.client("front-door");
    let key = client
        .create_key()
        .send()
        .await
        .unwrap()
        .key_metadata
        .unwrap()
        .arn
        .unwrap();
    let sealed = client
        .encrypt()
        .key_id(&key)
        .plaintext(Blob::new("hello"))
        .send()
        .await
        .unwrap();
    let opened = client
        .decrypt()
        .ciphertext_blob(sealed.ciphertext_blob.unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(opened.plaintext.unwrap().as_ref(), b"hello");
    assert!(opened.ciphertext_for_recipient.is_none());
    let dry = client
        .encrypt()
        .key_id(&key)
        .plaintext(Blob::new("hello"))
        .dry_run(true)
        .send()
        .await;
    assert_eq!(exception(dry), "DryRunOperationException");
    let dry = client
        .generate_data_key()
        .key_id(&key)
        .number_of_bytes(32)
        .dry_run(true)
        .send()
        .await;
    assert_eq!(exception(dry), "DryRunOperationException");

    harness.files.write_principals(&["stranger"]);
    assert_eq!(
        exception(
            harness
                .client("stranger")
                .describe_key()
                .key_id(&key)
                .send()
                .await
        ),
        "AccessDeniedException"
    );
    assert_eq!(
        exception(harness.client("stranger").create_key().send().await),
        "AccessDeniedException"
    );
    assert_eq!(
        exception(harness.client("stranger").list_keys().send().await),
        "AccessDeniedException"
    );
}
