//! Refused requests.

use cloister_protocol::message::Signed;
use cloister_protocol::request::AuthenticatedRequest;
use cloister_protocol::{CallerSecret, Code, KeyId, PrivateKey};
use cloister_sealing::{Capabilities, Capability};
use cloister_signer::{Failures, PendingSignature};

use crate::fixture::{NOW, Wallet};

const USER_OP: &str =
    r#"{"userOpHash":"0xf3df4bcb3b24437160ba86a88f41d522662ed994dddd11ac477cfc16e9a71869"}"#;
const TRANSFER: &str = r#"{"type":2,"chainId":1,"nonce":0,"gas":21000,"maxFeePerGas":2,"maxPriorityFeePerGas":1,"to":"0x1111111111111111111111111111111111111111","value":1}"#;

fn wallet(capabilities: &[Capability]) -> Wallet {
    Wallet::new(
        PrivateKey::take(&mut [0x42; 32]).unwrap(),
        capabilities.iter().copied().collect(),
    )
}

fn able() -> Wallet {
    wallet(&[Capability::Transaction, Capability::UserOpHash])
}

fn guess(wallet: &Wallet) -> AuthenticatedRequest {
    let wrong = CallerSecret::new("a wrong secret of 26 chars".to_owned().into()).unwrap();
    AuthenticatedRequest::new(wallet.key_id, &wrong, NOW, USER_OP)
}

#[test]
fn each_kind_of_payload_is_a_permission_of_its_own() {
    let refused = |wallet: &Wallet, payload| wallet.sign(payload).unwrap_err().code;
    let transactions = wallet(&[Capability::Transaction]);
    transactions.sign(TRANSFER).unwrap();
    assert_eq!(refused(&transactions, USER_OP), Code::NotPermitted);
    let hashes = wallet(&[Capability::UserOpHash]);
    hashes.sign(USER_OP).unwrap();
    assert_eq!(refused(&hashes, TRANSFER), Code::NotPermitted);
}

#[test]
fn a_key_without_capabilities_signs_nothing() {
    let useless = wallet(&[]);
    for payload in [TRANSFER, USER_OP] {
        assert_eq!(useless.sign(payload).unwrap_err().code, Code::NotPermitted);
    }
}

/// The canary's id is unknown to callers, even with a valid MAC and every capability.
#[test]
fn the_canary_is_an_unknown_key() {
    let canary = Wallet::named(
        KeyId::CANARY,
        PrivateKey::take(&mut [0x42; 32]).unwrap(),
        [Capability::Transaction, Capability::UserOpHash]
            .into_iter()
            .collect(),
    );
    for payload in [TRANSFER, USER_OP] {
        assert_eq!(canary.sign(payload).unwrap_err().code, Code::KeyNotFound);
    }
}

/// The payload is read after its MAC was checked: a stranger learns nothing about it, and costs no
/// more for it.
#[test]
fn an_invalid_payload_is_refused_by_name_to_the_caller_of_the_key_only() {
    let wallet = able();
    for (payload, code, field) in [
        ("[]", Code::MalformedJson, "authenticated.payload"),
        ("{}", Code::MissingField, "transaction_payload.type"),
        (
            r#"{"type":7}"#,
            Code::UnsupportedTransactionType,
            "transaction_payload.type",
        ),
    ] {
        let refused = wallet.sign(payload).unwrap_err();
        assert_eq!(
            (refused.code, refused.field.as_deref()),
            (code, Some(field))
        );
        let mut request = wallet.request(payload);
        request.mac[0] ^= 1;
        let stranger = wallet.answer(&request.to_json(), &wallet.row_json(), &Failures::new());
        let refused = stranger.unwrap_err();
        assert_eq!(
            (refused.code, refused.field),
            (Code::AuthenticationFailed, None)
        );
    }
}

#[test]
fn a_wrong_secret_or_a_changed_request_is_refused() {
    let wallet = able();
    let good = wallet.request(USER_OP);
    let changes: [fn(&mut AuthenticatedRequest); 3] = [
        |request| request.mac[31] ^= 1,
        |request| request.timestamp += 1,
        |request| request.payload = request.payload.replace("f3df", "f3de"),
    ];
    let mut wrong = changes.map(|change| {
        let mut request = good.clone();
        change(&mut request);
        request
    });
    wrong[0].mac.reverse();
    for request in wrong.iter().chain([&guess(&wallet)]) {
        let rejection = wallet
            .answer(&request.to_json(), &wallet.row_json(), &Failures::new())
            .unwrap_err();
        assert_eq!(rejection.code, Code::AuthenticationFailed);
    }
}

/// Many failures change the code for those who fail, and nothing for the caller with the secret.
#[test]
fn failures_of_others_do_not_lock_a_caller_out() {
    let (wallet, failures) = (able(), Failures::new());
    let (right, wrong) = (wallet.request(USER_OP).to_json(), guess(&wallet).to_json());
    let codes = (0..20).map(|_| {
        wallet
            .answer(&wrong, &wallet.row_json(), &failures)
            .unwrap_err()
            .code
    });
    let codes = codes.collect::<Vec<_>>();
    assert_eq!(codes[0], Code::AuthenticationFailed);
    assert_eq!(codes[19], Code::TooManyFailures);
    wallet
        .answer(&right, &wallet.row_json(), &failures)
        .unwrap();
    assert_eq!(
        wallet
            .answer(&wrong, &wallet.row_json(), &failures)
            .unwrap_err()
            .code,
        Code::TooManyFailures
    );
}

#[test]
fn requests_out_of_shape_time_or_place_are_refused_before_the_row_is_opened() {
    let wallet = able();
    let row = wallet.row_json();
    let refused = |request: &[u8], row: &[u8], now| {
        PendingSignature::parse(request, row, now).unwrap_err().code
    };
    let good = wallet.request(USER_OP).to_json();
    PendingSignature::parse(&good, &row, NOW).unwrap();

    assert_eq!(refused(b"{}", &row, NOW), Code::MissingField);
    assert_eq!(refused(&good[1..], &row, NOW), Code::MalformedJson);
    assert_eq!(refused(&good, &row, NOW + 61), Code::TimestampOutOfWindow);
    assert_eq!(refused(&good, &row, NOW - 61), Code::TimestampOutOfWindow);
    assert_eq!(refused(&good, b"{}", NOW), Code::ProtocolViolation);
    let padded = format!(
        "{}{USER_OP}",
        " ".repeat(cloister_protocol::limits::MAX_BODY_LEN)
    );
    assert_eq!(
        refused(&wallet.request(&padded).to_json(), &row, NOW),
        Code::BodyTooLarge
    );

    let another = Wallet::named(
        KeyId::from_random_bytes([8; 16]),
        PrivateKey::take(&mut [0x42; 32]).unwrap(),
        Capabilities::NONE,
    );
    assert_eq!(
        refused(&good, &another.row_json(), NOW),
        Code::SealedRowRefused
    );
}

#[test]
fn a_sender_that_is_not_this_key_is_refused() {
    let wallet = able();
    let from = |address: &str| {
        wallet.sign(&TRANSFER.replacen('{', &format!(r#"{{"from":"{address}","#), 1))
    };
    from(&wallet.row.address.to_string()).unwrap();
    let rejection = from("0x1111111111111111111111111111111111111111").unwrap_err();
    assert_eq!(
        (rejection.code, rejection.field.as_deref()),
        (Code::InvalidField, Some("transaction_payload.from"))
    );
}

#[test]
fn a_repeat_yields_the_identical_signature() {
    let wallet = able();
    let signed = || match wallet.sign(TRANSFER).unwrap() {
        Signed::Transaction {
            transaction_signed, ..
        } => transaction_signed,
        Signed::Signature { .. } => panic!("a transaction was asked for"),
    };
    assert_eq!(signed(), signed());
}
