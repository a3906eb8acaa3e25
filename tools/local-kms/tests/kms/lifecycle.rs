//! Keys that cannot be used: pending deletion, disabled, without material.

use aws_sdk_kms::{primitives::Blob, types::OriginType};
use cloister_key_policy::Form;

use crate::{
    deployment::policy,
    setup::{Harness, exception},
};

#[tokio::test]
async fn only_the_retirement_role_schedules_deletion_and_only_in_thirty_days() {
    let harness = Harness::start();
    let key = harness.create_key(&policy(Form::Locked)).await;
    let schedule = |role: &str, days: Option<i32>| {
        let call = harness.client(role).schedule_key_deletion().key_id(&key);
        call.set_pending_window_in_days(days).send()
    };
    for (role, days) in [
        ("administrator", Some(30)),
        ("retirement", Some(7)),
        ("retirement", None),
    ] {
        assert_eq!(
            exception(schedule(role, days).await),
            "AccessDeniedException",
            "{role} {days:?}"
        );
    }
    let scheduled = schedule("retirement", Some(30)).await.unwrap();
    assert_eq!(scheduled.key_state.unwrap().as_str(), "PendingDeletion");
    assert_eq!(
        exception(schedule("retirement", Some(30)).await),
        "KMSInvalidStateException"
    );

    let retirement = harness.client("retirement");
    let state = || async {
        let described = retirement
            .describe_key()
            .key_id(&key)
            .send()
            .await
            .unwrap()
            .key_metadata
            .unwrap();
        described.key_state.unwrap().as_str().to_owned()
    };
    assert_eq!(state().await, "PendingDeletion");
    retirement
        .cancel_key_deletion()
        .key_id(&key)
        .send()
        .await
        .unwrap();
    assert_eq!(state().await, "Disabled");
    retirement.enable_key().key_id(&key).send().await.unwrap();
    assert_eq!(state().await, "Enabled");
}

#[tokio::test]
async fn a_key_out_of_use_neither_seals_nor_opens() {
    let harness = Harness::start();
    let client = harness.client("administrator");
    let key = client
        .create_key()
        .send()
        .await
        .unwrap()
        .key_metadata
        .unwrap()
        .arn
        .unwrap();
    let seal = || {
        client
            .encrypt()
            .key_id(&key)
            .plaintext(Blob::new("hello"))
            .send()
    };
    let sealed = seal().await.unwrap().ciphertext_blob.unwrap();
    let open = || client.decrypt().ciphertext_blob(sealed.clone()).send();

    client.disable_key().key_id(&key).send().await.unwrap();
    assert_eq!(exception(seal().await), "DisabledException");
    assert_eq!(exception(open().await), "DisabledException");
    client.enable_key().key_id(&key).send().await.unwrap();
    client
        .schedule_key_deletion()
        .key_id(&key)
        .send()
        .await
        .unwrap();
    assert_eq!(exception(open().await), "KMSInvalidStateException");

    let external = client
        .create_key()
        .origin(OriginType::External)
        .multi_region(true)
        .send()
        .await
        .unwrap();
    let external = external.key_metadata.unwrap();
    assert_eq!(
        (external.origin, external.multi_region),
        (Some(OriginType::External), Some(true))
    );
    let sealed = client
        .encrypt()
        .key_id(external.key_id)
        .plaintext(Blob::new("hello"))
        .send()
        .await;
    assert_eq!(exception(sealed), "KMSInvalidStateException");
}

#[tokio::test]
async fn keys_are_listed_and_named_exactly() {
    let harness = Harness::start();
    let client = harness.client("administrator");
    let key = client
        .create_key()
        .send()
        .await
        .unwrap()
        .key_metadata
        .unwrap();
    let listed = client.list_keys().send().await.unwrap().keys.unwrap();
    let arn = key.arn.unwrap();
    assert_eq!(
        listed
            .iter()
            .filter_map(|listed| listed.key_arn.as_deref())
            .collect::<Vec<_>>(),
        [&*arn]
    );

    for name in [
        key.key_id.to_uppercase(),
        arn.replace("eu-", "us-"),
        arn.replace("1111", "2222"),
        "alias/x".into(),
    ] {
        assert_eq!(
            exception(client.describe_key().key_id(name).send().await),
            "NotFoundException"
        );
    }
    assert!(
        client
            .describe_key()
            .key_id(key.key_id)
            .send()
            .await
            .is_ok()
    );
}
