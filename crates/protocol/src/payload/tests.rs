use std::str::FromStr as _;

use alloy_primitives::U256;
use bigdecimal::BigDecimal;
use proptest::prelude::*;

use super::*;
use crate::Code;

const TO: &str = "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf";

/// A complete payload with one member's text replaced (`None` removes it) or added.
fn payload(member: &str, text: Option<&str>) -> String {
    let to = format!("\"{TO}\"");
    let mut members = vec![
        ("value", "0.01"),
        ("to", to.as_str()),
        ("nonce", "0"),
        ("type", "2"),
        ("chainId", "4"),
        ("gas", "100000"),
        ("maxFeePerGas", "100000000000"),
        ("maxPriorityFeePerGas", "3000000000"),
    ];
    members.retain(|(name, _)| *name != member);
    members.extend(text.map(|text| (member, text)));
    let members: Vec<_> = members
        .iter()
        .map(|(name, text)| format!("\"{name}\":{text}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn parse(member: &str, text: Option<&str>) -> Result<Eip1559, Rejection> {
    match SigningPayload::parse(payload(member, text).as_bytes())? {
        SigningPayload::Transaction(transaction) => Ok(*transaction),
        SigningPayload::UserOpHash(_) => panic!("a transaction was sent"),
    }
}

fn wei(text: &str) -> Result<U256, Rejection> {
    parse("value", Some(text)).map(|transaction| transaction.value)
}

/// In the reference deployment 0.01 ether went through a 32-bit float and became 9999999776482582
/// wei.
#[test]
fn reference_defect_float_for_wei() {
    for text in ["0.01", "\"0.01\"", "1e-2", "\"0x2386f26fc10000\""] {
        assert_eq!(
            wei(text).unwrap(),
            U256::from(10_000_000_000_000_000u64),
            "{text}"
        );
    }
}

#[test]
fn amounts_at_their_limits() {
    assert_eq!(wei("0.000000000000000001").unwrap(), U256::from(1));
    assert_eq!(wei("1e-18").unwrap(), U256::from(1));
    assert_eq!(wei("1E+3").unwrap(), U256::from(10).pow(U256::from(21)));
    assert_eq!(wei("0").unwrap(), U256::ZERO);
    assert_eq!(wei("0e999").unwrap(), U256::ZERO);
    let most = format!("\"0x{}\"", "f".repeat(64));
    assert_eq!(wei(&most).unwrap(), U256::MAX);
    let most_ether =
        "115792089237316195423570985008687907853269984665640564039457.584007913129639935";
    assert_eq!(wei(most_ether).unwrap(), U256::MAX);
    assert_eq!(
        parse("valueWei", Some("7")).unwrap_err().field.unwrap(),
        "transaction_payload.valueWei"
    );
    let only_wei = payload("value", None).replace("\"nonce\"", "\"valueWei\":\"7\",\"nonce\"");
    match SigningPayload::parse(only_wei.as_bytes()).unwrap() {
        SigningPayload::Transaction(transaction) => assert_eq!(transaction.value, U256::from(7)),
        SigningPayload::UserOpHash(_) => panic!("a transaction was sent"),
    }
}

#[test]
fn wrong_members_are_refused_by_name() {
    let long_data = format!("\"0x{}\"", "00".repeat(crate::limits::MAX_CALLDATA_LEN + 1));
    let above = "115792089237316195423570985008687907853269984665640564039457.584007913129639936";
    let invalid: &[(&str, &[&str])] = &[
        (
            "value",
            &[
                "-1",
                "-0",
                "\"-0.1\"",
                "1e-19",
                "0.0000000000000000001",
                "\"1e-7\"",
                "\"NaN\"",
                "\"\"",
                "\" 1\"",
                "\"1.\"",
                "\".1\"",
                "\"01\"",
                "\"0x\"",
                "\"0xg\"",
                "\"0x-1\"",
                above,
                "1e60",
                "1e2147483647",
                "1e99999999999",
                "true",
                "[]",
                "{}",
                "null",
                "\"١\"",
            ],
        ),
        (
            "nonce",
            &[
                "-1",
                "1.0",
                "1e3",
                "18446744073709551615",
                "18446744073709551616",
                "\"+1\"",
                "\"0x10000000000000000\"",
                "null",
            ],
        ),
        ("chainId", &["0", "\"0x0\"", "18446744073709551616", "1.5"]),
        ("gas", &["\"\"", "18446744073709551616", "\"1_000\""]),
        (
            "maxFeePerGas",
            &["340282366920938463463374607431768211456", "-5"],
        ),
        ("maxPriorityFeePerGas", &["100000000001"]),
        (
            "to",
            &[
                "\"\"",
                "\"0xa5D3241A1591061F2a4bB69CA0215F66520E67\"",
                "\"0xa5D3241A1591061F2a4bB69CA0215F66520E67cfcf\"",
                "\"0xA5D3241A1591061F2a4bB69CA0215F66520E67cf\"",
                "null",
                "7",
            ],
        ),
        ("data", &["\"0x0\"", "\"0xzz\"", "1", "null", &long_data]),
        ("accessList", &["{}", "null", "\"0x\""]),
        ("type", &["5", "\"two\"", "-2", "2.0", "null"]),
        ("from", &["\"0x\"", "null"]),
    ];
    for (member, texts) in invalid {
        for text in *texts {
            let rejection = parse(member, Some(text)).unwrap_err();
            assert_eq!(
                (rejection.code, rejection.field.as_deref()),
                (
                    Code::InvalidField,
                    Some(format!("transaction_payload.{member}").as_str())
                ),
                "{member} = {}",
                &text[..text.len().min(80)]
            );
        }
    }
    for text in ["0", "1", "3", "4", "\"0x1\""] {
        assert_eq!(
            parse("type", Some(text)).unwrap_err().code,
            Code::UnsupportedTransactionType,
            "{text}"
        );
    }
    for member in [
        "to",
        "nonce",
        "type",
        "chainId",
        "gas",
        "maxFeePerGas",
        "maxPriorityFeePerGas",
    ] {
        let rejection = parse(member, None).unwrap_err();
        assert_eq!(rejection.code, Code::MissingField, "{member}");
        assert_eq!(
            rejection.field.unwrap(),
            format!("transaction_payload.{member}")
        );
    }
    assert_eq!(
        parse("gasPrice", Some("1")).unwrap_err().code,
        Code::UnknownField
    );
    assert_eq!(
        parse("userOpHash", Some("\"00\"")).unwrap_err().code,
        Code::UnknownField
    );
    let both = payload("data", Some("\"0x\",\"input\":\"0x\""));
    assert_eq!(
        SigningPayload::parse(both.as_bytes()).unwrap_err().code,
        Code::DuplicateField
    );
    let twice = payload("gas", Some("1,\"gas\":1"));
    let twice = SigningPayload::parse(twice.as_bytes()).unwrap_err();
    assert_eq!(
        (twice.code, twice.field.as_deref()),
        (Code::DuplicateField, Some("transaction_payload.gas"))
    );
}

#[test]
fn right_members_are_taken() {
    assert_eq!(
        parse("maxPriorityFeePerGas", Some("0"))
            .unwrap()
            .max_priority_fee_per_gas,
        0
    );
    assert_eq!(
        parse("maxPriorityFeePerGas", Some("100000000000"))
            .unwrap()
            .max_priority_fee_per_gas,
        100_000_000_000
    );
    assert_eq!(
        parse("nonce", Some("18446744073709551614")).unwrap().nonce,
        u64::MAX - 1
    );
    assert_eq!(parse("type", Some("\"0x02\"")).unwrap().chain_id, 4);
    for to in [
        TO.to_lowercase(),
        TO.replace("0x", "").to_uppercase(),
        TO.replace("0x", ""),
    ] {
        assert_eq!(
            parse("to", Some(&format!("\"{to}\"")))
                .unwrap()
                .to
                .unwrap()
                .to_checksum(None),
            TO
        );
    }
    for name in ["data", "input"] {
        assert_eq!(parse(name, Some("\"0x6001\"")).unwrap().data[..], [0x60, 1]);
    }
    let creation = payload("to", Some("null")).replace("\"nonce\"", "\"data\":\"0x00\",\"nonce\"");
    match SigningPayload::parse(creation.as_bytes()).unwrap() {
        SigningPayload::Transaction(transaction) => assert_eq!(transaction.to, None),
        SigningPayload::UserOpHash(_) => panic!("a transaction was sent"),
    }
    let list = format!(
        r#"[{{"address":"{TO}","storageKeys":["0x{}"]}}]"#,
        "01".repeat(32)
    );
    assert_eq!(
        parse("accessList", Some(&list)).unwrap().access_list[0]
            .storage_keys
            .len(),
        1
    );
    let nested = parse(
        "accessList",
        Some(r#"[{"address":"0x00","storageKeys":[]}]"#),
    )
    .unwrap_err();
    assert_eq!(
        nested.field.unwrap(),
        "transaction_payload.accessList[0].address"
    );
}

#[test]
fn user_op_hash_is_32_bytes() {
    let digits = "f3df4bcb3b24437160ba86a88f41d522662ed994dddd11ac477cfc16e9a71869";
    for hash in [digits.to_owned(), format!("0x{digits}")] {
        let parsed =
            SigningPayload::parse(format!(r#"{{"userOpHash":"{hash}"}}"#).as_bytes()).unwrap();
        assert_eq!(parsed, SigningPayload::UserOpHash(digits.parse().unwrap()));
    }
    for wrong in [
        "",
        "0x",
        &digits[2..],
        &format!("{digits}00"),
        &digits.replace('f', "x"),
    ] {
        let rejection =
            SigningPayload::parse(format!(r#"{{"userOpHash":"{wrong}"}}"#).as_bytes()).unwrap_err();
        assert_eq!(rejection.field.unwrap(), "transaction_payload.userOpHash");
    }
}

/// What an independent decimal implementation makes of an amount.
fn expected_wei(text: &str) -> Option<U256> {
    let scaled = BigDecimal::from_str(text).unwrap() * BigDecimal::from(10u64.pow(18));
    scaled
        .is_integer()
        .then(|| U256::from_str(&scaled.with_scale(0).to_plain_string()).ok())
        .flatten()
}

proptest! {
    #[test]
    fn amounts_agree_with_an_independent_implementation(
        integer in "0|[1-9][0-9]{0,60}", fraction in "[0-9]{0,20}", exponent in proptest::option::of(-25i32..25),
    ) {
        let point = if fraction.is_empty() { "" } else { "." };
        let exponent_text = exponent.map_or(String::new(), |exponent| format!("e{exponent}"));
        let text = format!("{integer}{point}{fraction}{exponent_text}");
        let decimals = i32::try_from(fraction.len()).unwrap() - exponent.unwrap_or(0);
        match wei(&text) {
            Ok(ours) => prop_assert_eq!(Some(ours), expected_wei(&text)),
            Err(_) => prop_assert!(decimals > 18 || expected_wei(&text).is_none(), "{} was refused", text),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, member in "value|to|data|accessList|type", text in "\\PC{0,40}") {
        let _ = SigningPayload::parse(&bytes);
        let _ = SigningPayload::parse(payload(&member, Some(&text)).as_bytes());
    }
}
