//! From a new key to its first signature.

use std::path::Path;

use alloy_primitives::Address;
use cloister_key_policy::Form;
use cloister_protocol::limits::MAX_BODY_LEN;
use cloister_protocol::message::Signed;
use cloister_protocol::{Code, KeyId};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::account::Account;
use crate::enclave::Enclave;
use crate::rows::Rows;

const USER_OP: &str =
    r#"{"userOpHash":"0xf3df4bcb3b24437160ba86a88f41d522662ed994dddd11ac477cfc16e9a71869"}"#;

/// A generator and a signer that serve.
struct Service {
    rows: Rows,
    generator: Enclave,
    signer: Enclave,
    _account: Account,
}

impl Service {
    async fn start() -> Self {
        let (account, rows) = (Account::start(), Rows::default());
        let (generator, signer) = (
            Enclave::generator(&account, &rows),
            Enclave::signer(&account),
        );
        let arn = account.create_cmk(Form::Locked).await;
        generator.configure(&arn, "key-generator").await.unwrap();
        signer.configure(&arn, "signer").await.unwrap();
        let report = generator.until_ready().await;
        assert!(
            report.locked
                && report.cmk_arn.as_deref() == Some(&arn)
                && report.service == cloister_contract::Service::KeyGenerator
        );
        signer
            .open_canary(&rows.row(KeyId::CANARY).unwrap())
            .await
            .unwrap();
        Self {
            rows,
            generator,
            signer,
            _account: account,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_born_and_signs() {
    let service = Service::start().await;
    let created = service.generator.generate_key().await.unwrap();
    let row = service.rows.row(created.key_id).unwrap();
    assert_eq!((row.address, row.version), (created.address, 1));
    let transfer = format!(
        r#"{{"type":2,"chainId":1,"nonce":0,"gas":21000,"maxFeePerGas":2,"maxPriorityFeePerGas":1,"to":"0x{}","value":1,"from":"{}"}}"#,
        "11".repeat(20),
        created.address
    );
    for payload in [&transfer, USER_OP] {
        service
            .signer
            .sign(created.key_id, &row, payload)
            .await
            .unwrap();
    }
    let another = service.generator.generate_key().await.unwrap();
    assert_ne!(
        (another.key_id, another.address),
        (created.key_id, created.address)
    );
}

/// A payload, a key, and the signature or the refusal.
#[derive(Deserialize)]
struct Vector {
    name: String,
    eth_key: String,
    address: Address,
    transaction_payload: Box<RawValue>,
    transaction_signed: Option<String>,
    transaction_hash: Option<String>,
    signature: Option<String>,
    code: Option<Code>,
    field: Option<String>,
}

/// Every vector through both enclaves, over their connections: the keys are imported and sign as
/// they always did.
#[tokio::test(flavor = "multi_thread")]
async fn vectors_through_both_enclaves() {
    let service = Service::start().await;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/signing");
    for file in std::fs::read_dir(directory).unwrap() {
        let vector: Vector =
            serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
        let created = service.generator.set_key(&vector.eth_key).await.unwrap();
        assert_eq!(created.address, vector.address, "{}", vector.name);
        let row = service.rows.row(created.key_id).unwrap();
        match service
            .signer
            .sign(created.key_id, &row, vector.transaction_payload.get())
            .await
        {
            Ok(Signed::Signature { signature }) => {
                assert_eq!(Some(signature), vector.signature, "{}", vector.name)
            }
            Ok(Signed::Transaction {
                transaction_signed,
                transaction_hash,
            }) => assert_eq!(
                (Some(transaction_signed), Some(transaction_hash)),
                (vector.transaction_signed, vector.transaction_hash),
                "{}",
                vector.name
            ),
            Err(rejection) => {
                assert_eq!(Some(rejection.code), vector.code, "{}", vector.name);
                let field = rejection.field.unwrap_or_default();
                assert!(
                    vector.field.is_none_or(|expected| expected == field),
                    "{}: {field}",
                    vector.name
                );
            }
        }
    }
    assert_eq!(
        service
            .generator
            .set_key("00")
            .await
            .unwrap_err()
            .field
            .as_deref(),
        Some("eth_key")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_others_and_edited_rows_are_refused() {
    let service = Service::start().await;
    let (one, other) = (
        service.generator.generate_key().await.unwrap(),
        service.generator.generate_key().await.unwrap(),
    );
    let row = service.rows.row(one.key_id).unwrap();
    let refused = async |row| {
        service
            .signer
            .sign(one.key_id, &row, USER_OP)
            .await
            .unwrap_err()
            .code
    };

    let others = service.rows.row(other.key_id).unwrap();
    assert_eq!(refused(others.clone()).await, Code::SealedRowRefused);
    let mut swapped = row.clone();
    swapped.sealed = others.sealed.clone();
    assert_eq!(refused(swapped).await, Code::SealedRowRefused);
    let mut readdressed = row.clone();
    readdressed.address = others.address;
    assert_eq!(refused(readdressed).await, Code::SealedRowRefused);
    let mut reversioned = row.clone();
    reversioned.version += 1;
    assert_eq!(refused(reversioned).await, Code::SealedRowRefused);
    let mut emptied = row.clone();
    emptied.sealed.clear();
    assert_eq!(refused(emptied).await, Code::SealedRowRefused);
    service
        .signer
        .sign(one.key_id, &row, USER_OP)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_canary_cannot_be_used() {
    let service = Service::start().await;
    let canary = service.rows.row(KeyId::CANARY).unwrap();
    let refused = service
        .signer
        .sign(KeyId::CANARY, &canary, USER_OP)
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::KeyNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_come_back_is_not_acknowledged() {
    let service = Service::start().await;
    service.rows.set_tampering(true);
    assert_eq!(
        service.generator.generate_key().await.unwrap_err().code,
        Code::VersionConflict
    );
    service.rows.set_tampering(false);
    service.rows.set_unavailable(true);
    let before = service.rows.len();
    assert_eq!(
        service.generator.generate_key().await.unwrap_err().code,
        Code::StorageUnavailable
    );
    assert_eq!(service.rows.len(), before);
    service.rows.set_unavailable(false);
    service.generator.generate_key().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_refused_by_name_and_size() {
    let service = Service::start().await;
    assert_eq!(
        service
            .generator
            .set_key(&"a".repeat(MAX_BODY_LEN))
            .await
            .unwrap_err()
            .code,
        Code::BodyTooLarge
    );
    assert_eq!(
        service
            .generator
            .set_key(r#"","evil":""#)
            .await
            .unwrap_err()
            .code,
        Code::UnknownField,
        "a member that nobody knows"
    );
}
