//! The signer's work on one request with a cached data key, next to the bare signature of
//! libsecp256k1 in the same run.
//!
//! The signer's side includes everything between request bytes and response bytes: reading the
//! request, opening the row, the MAC, reading the payload, building and hashing the transaction,
//! signing, recovering the signer, encoding, reading the encoding back.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/signing/fixture.rs"]
mod fixture;

use std::hint::black_box;

use cloister_protocol::PrivateKey;
use cloister_sealing::{Capability, open_with};
use cloister_signer::{Failures, PendingSignature};
use criterion::{Criterion, criterion_group, criterion_main};

use fixture::{NOW, Wallet};

const KEY: [u8; 32] = [0x42; 32];
const TRANSACTION: &str = r#"{"value":0.01,"to":"0xa5D3241A1591061F2a4bB69CA0215F66520E67cf","nonce":0,"type":2,"chainId":4,"gas":100000,"maxFeePerGas":100000000000,"maxPriorityFeePerGas":3000000000}"#;
const USER_OP: &str =
    r#"{"userOpHash":"0xf3df4bcb3b24437160ba86a88f41d522662ed994dddd11ac477cfc16e9a71869"}"#;

fn sign_transaction(criterion: &mut Criterion) {
    let key = PrivateKey::take(&mut KEY.clone()).expect("in range");
    let wallet = Wallet::new(
        key,
        [Capability::Transaction, Capability::UserOpHash]
            .into_iter()
            .collect(),
    );
    let (row, failures) = (wallet.row_json(), Failures::new());

    let mut group = criterion.benchmark_group("sign_transaction");
    for (name, payload) in [("eip1559", TRANSACTION), ("user_op", USER_OP)] {
        let request = wallet.request(payload).to_json();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                wallet
                    .answer(black_box(&request), black_box(&row), &failures)
                    .expect("it is permitted")
            });
        });
    }
    group.finish();
}

/// The steps of one request.
fn parts(criterion: &mut Criterion) {
    let key = PrivateKey::take(&mut KEY.clone()).expect("in range");
    let wallet = Wallet::new(key, [Capability::Transaction].into_iter().collect());
    let (row, request, failures) = (
        wallet.row_json(),
        wallet.request(TRANSACTION).to_json(),
        Failures::new(),
    );
    let parse =
        || PendingSignature::parse(black_box(&request), black_box(&row), NOW).expect("well-formed");
    let parsed = parse();
    let open =
        || open_with(black_box(parsed.row()), &wallet.data_key).expect("sealed with this data key");
    let opened = open();

    let mut group = criterion.benchmark_group("parts");
    group.bench_function("parse", |bencher| bencher.iter(parse));
    group.bench_function("open", |bencher| bencher.iter(open));
    group.bench_function("authenticate, read, sign, check, write", |bencher| {
        bencher.iter(|| {
            parsed
                .answer(black_box(&opened), &failures)
                .expect("it is permitted")
        });
    });
    group.finish();
}

/// The largest requests without the key's secret: their cost is that of reading the request and of
/// one MAC.
fn refusals(criterion: &mut Criterion) {
    let key = PrivateKey::take(&mut KEY.clone()).expect("in range");
    let wallet = Wallet::new(key, [Capability::Transaction].into_iter().collect());
    let (row, failures) = (wallet.row_json(), Failures::new());

    let mut group = criterion.benchmark_group("refusals");
    group.sample_size(20);
    let zeros = format!("[0{}]", ",0".repeat(125_000));
    let calldata = format!("\"0x{}\"", "00".repeat(125_000));
    for (name, member) in [
        ("accessList of zeros", format!(r#"{{"accessList":{zeros},"#)),
        (
            "storageKeys of zeros",
            format!(
                r#"{{"accessList":[{{"address":"0xa5D3241A1591061F2a4bB69CA0215F66520E67cf","storageKeys":{zeros}}}],"#
            ),
        ),
        ("calldata", format!(r#"{{"data":{calldata},"#)),
    ] {
        let mut request = wallet.request(&TRANSACTION.replacen('{', &member, 1));
        request.mac[0] ^= 1;
        let request = request.to_json();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                wallet
                    .answer(black_box(&request), black_box(&row), &failures)
                    .expect_err("the MAC is wrong")
            });
        });
    }
    group.finish();
}

fn bare_signature(criterion: &mut Criterion) {
    criterion.bench_function("bare/libsecp256k1", |bencher| {
        bencher.iter(|| {
            let key = secp256k1::SecretKey::from_secret_bytes(black_box(KEY)).expect("in range");
            let message = secp256k1::Message::from_digest(black_box([7; 32]));
            secp256k1::ecdsa::RecoverableSignature::sign_ecdsa_recoverable(message, &key)
        });
    });
}

criterion_group!(benches, sign_transaction, parts, refusals, bare_signature);
criterion_main!(benches);
