//! `cloister kms render` and `verify-policy`, against the key of a running stack.

use std::fs;
use std::path::PathBuf;

use cloister_e2e::Local;
use cloister_local::identity::{role_arn, table_arn};
use cloister_local::part::Part;
use serde_json::{Value, json};

use crate::program::Shell;

/// The measurements.json that the stack's release would have.
fn measurements(local: &Local, change: impl FnOnce(&mut Value)) -> PathBuf {
    let image = |pcr0: String| json!({ "file": "x.eif", "size": 1, "sha256": "", "pcr0": pcr0, "pcr1": "11".repeat(48), "pcr2": "22".repeat(48) });
    let measured = local.stack.measurements();
    let mut file = json!({
        "format": 1,
        "architecture": "amd64",
        "settings": {
            "partition": "aws", "account": cloister_local::identity::ACCOUNT, "region": local.stack.region(),
            "signer_role": role_arn("cloister-signer"), "generator_role": role_arn("cloister-key-generator"),
            "retirement_role": role_arn("cloister-retirement"), "administrator_role": role_arn("cloister-administrator"),
            "table_arn": table_arn(), "tls_roots": [local.stack.root_certificate()], "accept_open_policy": true,
        },
        "inputs": {},
        "images": {
            "signer": image(measured.signer.to_string()), "key-generator": image(measured.generator.to_string()),
        },
    });
    change(&mut file);
    let path = local.stack.data().path(&format!(
        "measurements-{}.json",
        cloister_e2e::random_secret()
    ));
    fs::write(&path, file.to_string()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn is_rendered_read_and_judged() {
    let local = Local::start().await;
    let shell = Shell::of(&local.stack.identities().administrator, &local);
    let root = local.stack.data().path("root.pem");
    fs::write(&root, local.stack.root_certificate()).unwrap();
    let (root, kms, arn) = (
        root.to_str().unwrap(),
        local.stack.https(Part::Kms).unwrap(),
        local.stack.cmk_arn(),
    );
    let ours = measurements(&local, |_| {});
    let ours = ours.to_str().unwrap();
    let live = [
        "kms",
        "verify-policy",
        "--key",
        arn,
        "--measurements",
        ours,
        "--endpoint-url",
        &kms,
        "--ca-file",
        root,
    ];

    let human = shell.run(&live).await;
    assert!(
        human.code == 0 && human.out.contains("exactly the open form"),
        "{human:?}"
    );
    assert!(
        human
            .out
            .contains("cloister-administrator may replace the policy (kms:PutKeyPolicy)"),
        "{human:?}"
    );
    let verdict = shell.run(&[&live[..], &["--json"]].concat()).await.json();
    assert_eq!(
        (&verdict["ok"], &verdict["form"], &verdict["key"]),
        (&json!(true), &json!("open"), &json!(arn))
    );

    // What is rendered verifies, in both forms and with a next release.
    let next = measurements(&local, |file| {
        file["images"]["signer"]["pcr0"] = "ab".repeat(48).into();
        file["images"]["key-generator"]["pcr0"] = "cd".repeat(48).into();
    });
    let next = next.to_str().unwrap();
    for (more, form) in [
        (vec![], "open"),
        (vec!["--form", "locked"], "locked"),
        (vec!["--next", next], "open"),
    ] {
        let rendered = shell
            .run(&[&["kms", "render", "--measurements", ours], &more[..]].concat())
            .await;
        assert_eq!(rendered.code, 0, "{rendered:?}");
        let file = local.stack.data().path("policy.json");
        fs::write(&file, &rendered.out).unwrap();
        let verify = [
            "kms",
            "verify-policy",
            "--policy",
            file.to_str().unwrap(),
            "--measurements",
            ours,
            "--json",
        ];
        let verdict = shell.run(&verify).await;
        assert_eq!(
            (verdict.code, &verdict.json()["form"]),
            (0, &json!(form)),
            "{verdict:?}"
        );
    }
    let locked_next = [
        "kms",
        "render",
        "--measurements",
        ours,
        "--next",
        next,
        "--form",
        "locked",
    ];
    assert_eq!(shell.run(&locked_next).await.code, 2);
    let of_another = measurements(&local, |file| {
        file["settings"]["region"] = "eu-west-1".into()
    });
    let of_another = shell
        .run(&[
            "kms",
            "render",
            "--measurements",
            ours,
            "--next",
            of_another.to_str().unwrap(),
        ])
        .await;
    assert_eq!(of_another.code, 2, "{of_another:?}");

    // Another release, and another policy on the key.
    let verify_as = [
        "kms",
        "verify-policy",
        "--key",
        arn,
        "--measurements",
        next,
        "--endpoint-url",
        &kms,
        "--ca-file",
        root,
    ];
    let another = shell.run(&verify_as).await;
    assert!(
        another.code == 3 && another.out.contains("NOT a policy of this release"),
        "{another:?}"
    );
    let administrator = local
        .stack
        .kms(&local.stack.identities().administrator)
        .unwrap();
    let policy = administrator
        .get_key_policy()
        .key_id(arn)
        .policy_name("default")
        .send()
        .await
        .unwrap()
        .policy
        .unwrap();
    let mut changed: Value = serde_json::from_str(&policy).unwrap();
    changed["Statement"][0]["Action"]
        .as_array_mut()
        .unwrap()
        .push("kms:CreateGrant".into());
    administrator
        .put_key_policy()
        .key_id(arn)
        .policy(changed.to_string())
        .send()
        .await
        .unwrap();
    let verdict = shell.run(&[&live[..], &["--json"]].concat()).await;
    assert_eq!(
        (verdict.code, &verdict.json()["ok"]),
        (3, &json!(false)),
        "{verdict:?}"
    );
    let grants = verdict.json()["by_a_change"].to_string();
    assert!(
        grants.contains("any principal of account 111122223333 that IAM allows may create grants"),
        "{grants}"
    );

    let denied = Shell::of(&local.stack.identities().caller, &local)
        .run(&live)
        .await;
    assert_eq!(denied.code, 6, "{denied:?}");
}
