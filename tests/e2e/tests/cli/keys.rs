//! Keys and signatures.

use std::fs;

use cloister_e2e::{Local, TRANSFER, random_secret};
use cloister_local::part::Part;
use cloister_protocol::CallerSecret;
use serde_json::json;

use crate::program::Shell;

/// The documented key, and its address.
const KEY: &str = "6835311872e1c63b50a8edd16605e2253c2a9c58ef9bf41f1d1c0c724981931a";
const ADDRESS: &str = "0xe06C2c216fC36E2d40fB0199623032CC17b3B41b";
const HASH: &str = "0xf3df4bcb3b24437160ba86a88f41d522662ed994dddd11ac477cfc16e9a71869";

#[tokio::test(flavor = "multi_thread")]
async fn are_made_used_and_refused() {
    let mut local = Local::start().await;
    let mut shell = Shell::of_a_caller(&local);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (secret, other_secret) = (random_secret(), random_secret());
    let (transaction, eth_key) = (
        file("transaction.json", TRANSFER),
        file("key", &format!("0x{KEY}\n")),
    );
    let secret_file = file("secret", &format!("{secret}\n"));

    // The three ways to give the secret, and none.
    assert_eq!(shell.run(&["key", "generate"]).await.code, 2);
    let human = shell
        .run(&["key", "generate", "--secret-file", &secret_file])
        .await;
    assert!(
        human.code == 0 && human.out.starts_with("key id   ") && human.err.is_empty(),
        "{human:?}"
    );
    let import = [
        "key",
        "import",
        "--eth-key-file",
        &eth_key,
        "--secret-file",
        "-",
        "--json",
    ];
    let imported = shell.run_with(&import, &secret).await;
    assert_eq!(
        (imported.code, imported.json()["address"].as_str()),
        (0, Some(ADDRESS)),
        "{imported:?}"
    );
    let imported = imported.json()["key_id"].as_str().unwrap().to_owned();
    shell.set("CLOISTER_SECRET", &secret);
    let generated = shell.run(&["key", "generate", "--json"]).await.json();
    let (id, address) = (
        generated["key_id"].as_str().unwrap(),
        generated["address"].as_str().unwrap(),
    );

    // Signed as documented; by MAC and by the secret itself alike.
    let sign = [
        "sign",
        "transaction",
        &transaction,
        "--key-id",
        &imported,
        "--address",
        ADDRESS,
        "--json",
    ];
    let by_mac = shell.run(&sign).await;
    let by_secret = shell.run(&[&sign[..], &["--send-secret"]].concat()).await;
    assert_eq!(
        (by_mac.code, by_mac.json()["signer"].as_str()),
        (0, Some(ADDRESS)),
        "{by_mac:?}"
    );
    assert_eq!(by_mac.json(), by_secret.json());
    let as_caller = CallerSecret::new(secret.clone().into()).unwrap();
    let expected = local
        .client
        .sign_transaction(imported.parse().unwrap(), &as_caller, TRANSFER)
        .await
        .unwrap();
    assert_eq!(
        by_mac.json()["transaction_signed"],
        json!(expected.transaction_signed)
    );
    assert_eq!(
        by_mac.json()["transaction_hash"],
        json!(expected.transaction_hash)
    );
    let piped = shell
        .run_with(&["sign", "transaction", "-", "--key-id", id], TRANSFER)
        .await;
    assert!(piped.code == 0 && piped.out.contains(address), "{piped:?}");
    // The amount in both units, before and after signing.
    for printed in [&piped.err, &piped.out] {
        assert!(
            printed.contains("0.01 ether (10000000000000000 wei)"),
            "{piped:?}"
        );
    }
    assert_eq!(
        (
            by_mac.json()["value_ether"].as_str(),
            by_mac.json()["value_wei"].as_str()
        ),
        (Some("0.01"), Some("10000000000000000"))
    );
    let sign_hash = ["sign", "user-op-hash", HASH, "--key-id", id, "--json"];
    let (by_mac, by_secret) = (
        shell.run(&sign_hash).await,
        shell
            .run(&[&sign_hash[..], &["--send-secret"]].concat())
            .await,
    );
    assert_eq!(
        (by_mac.code, by_mac.json()["signer"].as_str()),
        (0, Some(address)),
        "{by_mac:?}"
    );
    assert_eq!(by_mac.json(), by_secret.json());

    // Each kind of refusal has its exit code.
    let wrong_signer = shell
        .run(&[
            "sign",
            "user-op-hash",
            HASH,
            "--key-id",
            id,
            "--address",
            ADDRESS,
        ])
        .await;
    assert!(
        wrong_signer.code == 8 && wrong_signer.out.is_empty(),
        "{wrong_signer:?}"
    );
    let wrong_secret = shell.with("CLOISTER_SECRET", &other_secret);
    let refused = wrong_secret.run(&sign_hash).await;
    assert_eq!((refused.code, refused.out.as_str()), (4, ""), "{refused:?}");
    assert_eq!(refused.failure()["kind"], "refused");
    assert_eq!(refused.failure()["code"], "authentication_failed");
    assert!(
        refused.failure()["request_id"]
            .as_str()
            .is_some_and(|id| !id.is_empty()),
        "{refused:?}"
    );
    // Eleven wrong secrets within a minute: still not to be repeated.
    let mut refused = refused;
    for _ in 0..10 {
        refused = wrong_secret.run(&sign_hash).await;
        assert_eq!(refused.code, 4, "{refused:?}");
    }
    assert_eq!(refused.failure()["code"], "too_many_failures");
    let unknown = shell
        .run(&[
            "sign",
            "user-op-hash",
            HASH,
            "--key-id",
            "7e99e372-0eba-4001-8002-35e6a1478070",
        ])
        .await;
    assert!(
        unknown.code == 4 && unknown.err.contains("key_not_found"),
        "{unknown:?}"
    );
    for (wrong, what) in [
        (TRANSFER.replace("0.01", "-1"), "transaction_payload.value"),
        ("{".to_owned(), "JSON"),
        (format!(r#"{{"userOpHash":"{HASH}"}}"#), "user-op-hash"),
    ] {
        let refused = shell
            .run_with(&["sign", "transaction", "-", "--key-id", id], &wrong)
            .await;
        assert!(
            refused.code == 2 && refused.err.contains(what),
            "{refused:?}"
        );
    }
    let short = shell
        .with("CLOISTER_SECRET", "too short")
        .run(&["key", "generate"])
        .await;
    assert!(
        short.code == 2 && !short.err.contains("too short"),
        "{short:?}"
    );
    let twice = shell
        .run(&["key", "import", "--eth-key-file", "-", "--secret-file", "-"])
        .await;
    assert!(
        twice.code == 2 && twice.err.contains("standard input"),
        "{twice:?}"
    );
    let stranger = shell
        .with("AWS_SECRET_ACCESS_KEY", &random_secret())
        .run(&["key", "generate"])
        .await;
    assert!(
        stranger.code == 6 && stranger.err.contains("cloister doctor"),
        "{stranger:?}"
    );
    let nobody = shell
        .with("CLOISTER_ENDPOINT", "http://127.0.0.1:1")
        .run(&["key", "generate", "--json"])
        .await;
    assert_eq!(
        (nobody.code, nobody.failure()["kind"].as_str()),
        (7, Some("no_answer")),
        "{nobody:?}"
    );
    local.stack.stop(Part::SignerPod).unwrap();
    let later = shell.run(&sign_hash).await;
    assert_eq!(
        (later.code, later.failure()["kind"].as_str()),
        (5, Some("refused_for_now")),
        "{later:?}"
    );

    for (what, secret) in [
        ("the secret", secret.as_str()),
        ("the imported key", KEY),
        (
            "the secret access key",
            &local.stack.identities().caller.secret_access_key,
        ),
        (
            "the session token",
            &local.stack.identities().caller.session_token,
        ),
    ] {
        assert!(!shell.has_printed(secret), "{what} was printed");
    }
    assert!(
        !wrong_secret.has_printed(&other_secret),
        "a wrong secret was printed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_a_named_profile_or_the_environment_or_there_is_a_sentence() {
    let local = Local::start().await;
    let mut shell = Shell::of_a_caller(&local);
    shell.set("CLOISTER_SECRET", &random_secret());

    let caller = &local.stack.identities().caller;
    let profile = local.stack.data().path("aws-credentials");
    let lines = [
        "[wallet]",
        &format!("aws_access_key_id={}", caller.access_key_id),
        &format!("aws_secret_access_key={}", caller.secret_access_key),
        &format!("aws_session_token={}", caller.session_token),
    ];
    fs::write(&profile, lines.join("\n")).unwrap();
    let stranger = shell.with("AWS_ACCESS_KEY_ID", "ASIANOBODY");
    let stranger = stranger.with("AWS_SHARED_CREDENTIALS_FILE", profile.to_str().unwrap());
    assert_eq!(stranger.run(&["key", "generate"]).await.code, 6);
    assert_eq!(
        stranger
            .run(&["key", "generate", "--profile", "wallet"])
            .await
            .code,
        0
    );
    assert_eq!(
        stranger
            .run(&["key", "generate", "--profile", "another"])
            .await
            .code,
        1
    );

    shell.unset("AWS_ACCESS_KEY_ID");
    let ended = shell.run(&["key", "generate"]).await;
    assert!(
        ended.code == 1 && ended.err.contains("no AWS credentials"),
        "{ended:?}"
    );
}
