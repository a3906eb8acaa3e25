use cloister_key_policy::{Measurements, NextRelease, Pcr0, render};
use serde_json::{Value, json};

use super::*;
use crate::fake_kms::{ARN, FakeKms, deployment, expected, measurements, policy};

async fn adopt_with(
    tamper: impl Fn(&str, &mut u16, &mut Value) + Send + Sync + 'static,
) -> Result<AdoptedKey, AdoptionError> {
    let kms = FakeKms::new();
    kms.tamper(tamper);
    adopt(&kms.client(), ARN, &expected(&deployment())).await
}

fn code(error: AdoptionError) -> Code {
    Rejection::from(error).code
}

#[tokio::test]
async fn a_key_that_is_right_is_adopted() {
    let kms = FakeKms::new();
    let key = kms.adopted().await;
    assert_eq!(key.arn(), ARN);
    assert!(key.is_locked());
    for operation in ["DescribeKey", "GetKeyPolicy", "ListGrants"] {
        assert_eq!(kms.calls(operation).len(), 1, "{operation}");
    }
}

#[tokio::test]
async fn foreign_arns_are_refused_before_any_call() {
    let kms = FakeKms::new();
    let deployment = deployment();
    for arn in [
        "arn:aws:kms:eu-central-1:111122223333:alias/wallet",
        "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "",
    ] {
        let error = adopt(&kms.client(), arn, &expected(&deployment))
            .await
            .unwrap_err();
        assert!(
            matches!(error, AdoptionError::NotAKeyArn),
            "{arn}: {error:?}"
        );
    }
    for (from, to) in [
        ("arn:aws:", "arn:aws-cn:"),
        ("eu-central-1", "eu-central-2"),
        ("111122223333", "111122223334"),
    ] {
        let error = adopt(
            &kms.client(),
            &ARN.replace(from, to),
            &expected(&deployment),
        )
        .await
        .unwrap_err();
        assert!(
            matches!(error, AdoptionError::ForeignKey),
            "{to}: {error:?}"
        );
        assert_eq!(code(error), Code::KeyPolicyRefused);
    }
    assert!(kms.calls("DescribeKey").is_empty());
}

#[tokio::test]
async fn every_attribute_is_looked_at() {
    for (member, value, named) in [
        ("AWSAccountId", json!("111122223334"), "AWSAccountId"),
        ("Origin", json!("EXTERNAL"), "Origin"),
        ("Origin", json!("AWS_CLOUDHSM"), "Origin"),
        ("Origin", Value::Null, "Origin"),
        ("KeyManager", json!("AWS"), "KeyManager"),
        ("KeySpec", json!("RSA_2048"), "KeySpec"),
        ("KeyUsage", json!("SIGN_VERIFY"), "KeyUsage"),
        ("MultiRegion", json!(true), "MultiRegion"),
        ("MultiRegion", Value::Null, "MultiRegion"),
        (
            "MultiRegionConfiguration",
            json!({ "MultiRegionKeyType": "REPLICA" }),
            "MultiRegion",
        ),
        (
            "CustomKeyStoreId",
            json!("cks-1234567890abcdef0"),
            "CustomKeyStoreId",
        ),
        (
            "CloudHsmClusterId",
            json!("cluster-1a23b4cdefg"),
            "CustomKeyStoreId",
        ),
        (
            "XksKeyConfiguration",
            json!({ "Id": "x" }),
            "XksKeyConfiguration",
        ),
        ("Enabled", json!(false), "KeyState"),
        ("KeyState", json!("PendingDeletion"), "KeyState"),
        ("KeyState", json!("Disabled"), "KeyState"),
    ] {
        let shown = format!("{member} = {value}");
        let error = adopt_with(move |operation, _, answer| {
            if operation == "DescribeKey" {
                answer["KeyMetadata"][member] = value.clone();
            }
        });
        let error = error.await.unwrap_err();
        assert!(
            matches!(error, AdoptionError::Attribute(attribute) if attribute == named),
            "{shown}: {error:?}"
        );
        assert_eq!(code(error), Code::KeyPolicyRefused);
    }
}

#[tokio::test]
async fn a_reply_about_another_key_is_refused() {
    let other = ARN.replace("1234abcd", "ffffabcd");
    let error = adopt_with(move |_, _, answer| answer["KeyMetadata"]["Arn"] = json!(other))
        .await
        .unwrap_err();
    assert!(
        matches!(error, AdoptionError::Kms(KmsError::ReplyRefused(_))),
        "{error:?}"
    );
    assert_eq!(code(error), Code::KmsReplyRefused);
}

#[tokio::test]
async fn the_policy_has_to_be_the_template() {
    let with_policy = |policy: String| {
        adopt_with(move |operation, _, answer| {
            if operation == "GetKeyPolicy" {
                answer["Policy"] = json!(policy);
            }
        })
    };
    let open = with_policy(policy(Form::Open)).await.unwrap_err();
    assert!(
        matches!(open, AdoptionError::Policy(PolicyMismatch::Open)),
        "{open:?}"
    );
    for changed in [
        policy(Form::Locked).replace("role/signer", "role/other"),
        policy(Form::Locked).replace("\"Deny\"", "\"Allow\""),
        policy(Form::Locked).replacen(&"01".repeat(48), &"0f".repeat(48), 1),
        "{}".into(),
        String::new(),
    ] {
        let error = with_policy(changed).await.unwrap_err();
        assert!(matches!(error, AdoptionError::Policy(_)), "{error:?}");
        assert_eq!(code(error), Code::KeyPolicyRefused);
    }
    let missing = adopt_with(|_, _, answer| {
        answer.as_object_mut().unwrap().remove("Policy");
    });
    assert!(matches!(
        missing.await,
        Err(AdoptionError::Kms(KmsError::ReplyRefused(_)))
    ));
}

#[tokio::test]
async fn the_open_form_is_adopted_only_when_accepted_and_says_so() {
    let kms = FakeKms::new();
    kms.tamper(|operation, _, answer| {
        if operation == "GetKeyPolicy" {
            answer["Policy"] = json!(policy(Form::Open));
        }
    });
    let deployment = deployment();
    let accepting = Expected {
        accept_open: true,
        ..expected(&deployment)
    };
    assert!(
        !adopt(&kms.client(), ARN, &accepting)
            .await
            .unwrap()
            .is_locked()
    );
}

/// While enclaves are exchanged, those of both releases start.
#[tokio::test]
async fn two_releases_are_adopted_in_the_open_form() {
    let next = NextRelease {
        signer: Pcr0::try_from([4; 48]).unwrap(),
        generator: Pcr0::try_from([5; 48]).unwrap(),
    };
    let both = Measurements {
        next: Some(next),
        ..measurements()
    };
    let policy = render(&deployment(), &both, Form::Open).unwrap();
    let kms = FakeKms::new();
    kms.tamper(move |operation, _, answer| {
        if operation == "GetKeyPolicy" {
            answer["Policy"] = json!(policy);
        }
    });
    let deployment = deployment();
    let present = Expected {
        accept_open: true,
        ..expected(&deployment)
    };
    let next = Expected {
        signer: next.signer,
        generator: Some(next.generator),
        ..present
    };
    for expected in [present, next] {
        assert_eq!(
            adopt(&kms.client(), ARN, &expected)
                .await
                .unwrap()
                .policy()
                .measurements,
            both
        );
    }
    let error = adopt(
        &kms.client(),
        ARN,
        &Expected {
            accept_open: false,
            ..present
        },
    )
    .await
    .unwrap_err();
    assert!(
        matches!(error, AdoptionError::Policy(PolicyMismatch::Open)),
        "{error:?}"
    );
}

/// An image that may make data keys may make rows: nobody but the measured generator does.
#[tokio::test]
async fn a_previous_generator_is_refused() {
    let measurements = Measurements {
        previous_generator: Some(Pcr0::try_from([3; 48]).unwrap()),
        ..measurements()
    };
    let policy = render(&deployment(), &measurements, Form::Locked).unwrap();
    let error = adopt_with(move |operation, _, answer| {
        if operation == "GetKeyPolicy" {
            answer["Policy"] = json!(policy);
        }
    });
    let error = error.await.unwrap_err();
    assert!(
        matches!(error, AdoptionError::PreviousGenerator),
        "{error:?}"
    );
    assert_eq!(code(error), Code::KeyPolicyRefused);
}

#[tokio::test]
async fn grants_are_refused_on_whatever_page_they_stand() {
    let grant = json!({ "GrantId": "abc", "GranteePrincipal": "arn:aws:iam::111122223333:role/x" });
    let first = grant.clone();
    let error = adopt_with(move |operation, _, answer| {
        if operation == "ListGrants" {
            answer["Grants"] = json!([first]);
        }
    });
    assert!(matches!(error.await, Err(AdoptionError::Grants)));

    let kms = FakeKms::new();
    let pages = std::sync::atomic::AtomicUsize::new(0);
    kms.tamper(move |operation, _, answer| {
        if operation == "ListGrants" {
            match pages.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 | 1 => *answer = json!({ "Grants": [], "Truncated": true, "NextMarker": "next" }),
                _ => answer["Grants"] = json!([grant]),
            }
        }
    });
    let error = adopt(&kms.client(), ARN, &expected(&deployment()))
        .await
        .unwrap_err();
    assert!(matches!(error, AdoptionError::Grants), "{error:?}");
    let markers: Vec<_> = kms
        .calls("ListGrants")
        .iter()
        .map(|call| call["Marker"].clone())
        .collect();
    assert_eq!(markers, [Value::Null, json!("next"), json!("next")]);
}

#[tokio::test]
async fn a_list_of_grants_without_end_is_refused() {
    let error = adopt_with(|operation, _, answer| {
        if operation == "ListGrants" {
            *answer = json!({ "Grants": [], "Truncated": true, "NextMarker": "next" });
        }
    });
    assert!(matches!(
        error.await,
        Err(AdoptionError::Kms(KmsError::ReplyRefused(_)))
    ));
    let cut = adopt_with(|operation, _, answer| {
        if operation == "ListGrants" {
            *answer = json!({ "Grants": [], "Truncated": true });
        }
    });
    assert!(matches!(
        cut.await,
        Err(AdoptionError::Kms(KmsError::ReplyRefused(_)))
    ));
}

#[tokio::test]
async fn a_refusal_of_kms_is_passed_on_without_its_text() {
    let error = adopt_with(|_, status, answer| {
        *status = 400;
        *answer = json!({ "__type": "AccessDeniedException", "message": "User: arn:aws:iam::1:role/r is not authorized" });
    });
    let error = error.await.unwrap_err();
    assert!(
        matches!(error, AdoptionError::Kms(KmsError::Denied)),
        "{error:?}"
    );
    let rejection = Rejection::from(error);
    assert_eq!(rejection.code, Code::KmsDenied);
    assert!(!rejection.error.contains("authorized"));
}
