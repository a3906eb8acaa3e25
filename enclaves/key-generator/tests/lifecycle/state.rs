//! Adoption of a CMK, and readiness.

use cloister_key_generator::KeyGenerator;
use cloister_key_policy::Form;
use cloister_protocol::message::State;
use cloister_protocol::{Code, KeyId};
use cloister_signer::Signer;

use crate::account::{Account, GENERATOR, SIGNER};
use crate::enclave::Enclave;
use crate::rows::Rows;

const USER_OP: &str =
    r#"{"userOpHash":"0xf3df4bcb3b24437160ba86a88f41d522662ed994dddd11ac477cfc16e9a71869"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_before_the_canary_was_opened() {
    let (account, rows) = (Account::start(), Rows::default());
    let arn = account.create_cmk(Form::Locked).await;
    let generator = Enclave::generator(&account, &rows);
    assert_eq!(generator.health().await.state, State::Unconfigured);
    assert_eq!(
        generator.generate_key().await.unwrap_err().code,
        Code::NotReady
    );
    generator.configure(&arn, "key-generator").await.unwrap();
    generator.until_ready().await;
    let created = generator.generate_key().await.unwrap();
    let row = rows.row(created.key_id).unwrap();
    let canary = rows.row(KeyId::CANARY).unwrap();

    let signer = Enclave::signer(&account);
    assert_eq!(signer.health().await.state, State::Unconfigured);
    assert_eq!(
        signer
            .sign(created.key_id, &row, USER_OP)
            .await
            .unwrap_err()
            .code,
        Code::NotReady
    );
    assert_eq!(
        signer.open_canary(&canary).await.unwrap_err().code,
        Code::NotReady
    );

    let report = signer.configure(&arn, "signer").await.unwrap();
    assert_eq!(
        (report.state, report.locked, report.pcr0),
        (State::Adopted, true, "51".repeat(48))
    );
    assert_eq!(
        signer
            .sign(created.key_id, &row, USER_OP)
            .await
            .unwrap_err()
            .code,
        Code::NotReady
    );
    // A row that opens is not the canary, and a canary that does not open proves nothing.
    assert_eq!(
        signer.open_canary(&row).await.unwrap_err().code,
        Code::SealedRowRefused
    );
    let mut edited = canary.clone();
    edited.version += 1;
    assert_eq!(
        signer.open_canary(&edited).await.unwrap_err().code,
        Code::SealedRowRefused
    );
    assert_eq!(signer.health().await.state, State::Adopted);

    assert_eq!(
        signer.open_canary(&canary).await.unwrap().state,
        State::Ready
    );
    signer.sign(created.key_id, &row, USER_OP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_canary_is_replaced() {
    let (account, rows) = (Account::start(), Rows::default());
    let arn = account.create_cmk(Form::Locked).await;
    rows.set_unreadable(KeyId::CANARY);
    let generator = Enclave::generator(&account, &rows);
    generator.configure(&arn, "key-generator").await.unwrap();
    generator.until_ready().await;
    let canary = rows.row(KeyId::CANARY).unwrap();
    assert_eq!(canary.version, 1);

    let signer = Enclave::signer(&account);
    signer.configure(&arn, "signer").await.unwrap();
    let report = signer.open_canary(&canary).await.unwrap();
    assert_eq!(report.state, State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_broken_credentials_replace_nothing() {
    let (account, rows) = (Account::start(), Rows::default());
    let arn = account.create_cmk(Form::Locked).await;
    let generator = Enclave::generator(&account, &rows);
    account.admit(&[
        "key-generator",
        "administrator",
        "key-generator@210987654321",
    ]);
    assert_eq!(
        generator.configure(&arn, "nobody").await.unwrap_err().code,
        Code::KmsDenied
    );
    assert_eq!(generator.health().await.state, State::Unconfigured);
    generator.configure(&arn, "key-generator").await.unwrap();
    generator.until_ready().await;
    for who in ["nobody", "key-generator@210987654321"] {
        assert_eq!(
            generator.configure(&arn, who).await.unwrap_err().code,
            Code::KmsDenied,
            "{who}"
        );
    }
    generator.generate_key().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_credentials_take_over() {
    let (account, rows) = (Account::start(), Rows::default());
    let arn = account.create_cmk(Form::Locked).await;
    let generator = Enclave::generator(&account, &rows);
    generator.configure(&arn, "key-generator").await.unwrap();
    generator.until_ready().await;
    account.admit(&["key-generator", "key-generator#2"]);
    assert_eq!(
        generator
            .configure(&arn, "key-generator#2")
            .await
            .unwrap()
            .state,
        State::Ready
    );
    account.admit(&["key-generator#2"]);
    generator.generate_key().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_cmk_per_boot() {
    let (account, rows) = (Account::start(), Rows::default());
    let (arn, another) = (
        account.create_cmk(Form::Locked).await,
        account.create_cmk(Form::Locked).await,
    );
    let generator = Enclave::generator(&account, &rows);
    generator.configure(&arn, "key-generator").await.unwrap();
    let refused = generator
        .configure(&another, "key-generator")
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::KeyPolicyRefused);
    assert_eq!(generator.until_ready().await.cmk_arn, Some(arn));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_measured_settings_demand_is_adopted() {
    let account = Account::start();
    let (open, locked) = (
        account.create_cmk(Form::Open).await,
        account.create_cmk(Form::Locked).await,
    );
    let refused = async |enclave: &Enclave, arn: &str, who| {
        let code = enclave.configure(arn, who).await.unwrap_err().code;
        assert_eq!(enclave.health().await.state, State::Unconfigured);
        code
    };

    let strict = Enclave::start(&account, SIGNER, false, Signer::new);
    assert_eq!(
        refused(&strict, &open, "signer").await,
        Code::KeyPolicyRefused
    );
    assert_eq!(
        refused(&strict, "alias/keys", "signer").await,
        Code::KeyPolicyRefused
    );
    strict.configure(&locked, "signer").await.unwrap();
    let lenient = Enclave::signer(&account);
    assert!(!lenient.configure(&open, "signer").await.unwrap().locked);

    // An image that the policy does not name, the other service's image, and a debug-mode enclave.
    for pcr0 in [[7; 48], GENERATOR, [0; 48]] {
        let other = Enclave::start(&account, pcr0, true, Signer::new);
        assert_eq!(
            refused(&other, &locked, "signer").await,
            Code::KeyPolicyRefused
        );
    }
    let rows = Rows::default();
    let wrong = Enclave::start(&account, [7; 48], true, |platform| {
        KeyGenerator::with_store(platform, move |_| rows.clone())
    });
    assert_eq!(
        refused(&wrong, &locked, "key-generator").await,
        Code::KeyPolicyRefused
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn generators_that_start_together_all_become_ready() {
    let (account, rows) = (Account::start(), Rows::default());
    let arn = account.create_cmk(Form::Locked).await;
    let generators = [(); 3].map(|()| Enclave::generator(&account, &rows));
    let [a, b, c] = &generators;
    let configured = tokio::join!(
        a.configure(&arn, "key-generator"),
        b.configure(&arn, "key-generator"),
        c.configure(&arn, "key-generator")
    );
    configured.0.and(configured.1).and(configured.2).unwrap();
    for generator in &generators {
        generator.until_ready().await;
        generator.generate_key().await.unwrap();
    }
    let canary = rows.row(KeyId::CANARY).unwrap();
    assert!(canary.version >= 3, "each wrote one of its own");

    let signer = Enclave::signer(&account);
    signer.configure(&arn, "signer").await.unwrap();
    signer.open_canary(&canary).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generator_whose_table_fails_becomes_ready_when_it_is_back() {
    let (account, rows) = (Account::start(), Rows::default());
    let arn = account.create_cmk(Form::Locked).await;
    let generator = Enclave::generator(&account, &rows);
    rows.set_unavailable(true);
    assert_eq!(
        generator
            .configure(&arn, "key-generator")
            .await
            .unwrap()
            .state,
        State::Adopted
    );
    assert_eq!(
        generator.generate_key().await.unwrap_err().code,
        Code::NotReady
    );
    rows.set_unavailable(false);
    generator.until_ready().await;
}
