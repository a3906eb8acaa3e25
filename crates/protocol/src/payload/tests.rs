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
    match SigningPayload::parse(&payload(member, text))? {
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
    // Exact in wei, however many zeros are written.
    for text in [
        "1.000000000000000000000",
        "10e-1",
        "\"1.0000000000000000000\"",
    ] {
        assert_eq!(
            wei(text).unwrap(),
            U256::from(10).pow(U256::from(18)),
            "{text}"
        );
    }
    assert_eq!(wei("10e-19").unwrap(), U256::from(1));
    assert_eq!(wei("0.0000000000000000000").unwrap(), U256::ZERO);
    assert_eq!(wei("0e-99999999999999999999").unwrap(), U256::ZERO);
    let most = format!("\"0x{}\"", "f".repeat(64));
    assert_eq!(wei(&most).unwrap(), U256::MAX);
    assert_eq!(
        parse("valueWei", Some("7")).unwrap_err().field.unwrap(),
        "transaction_payload.valueWei"
    );
    let only_wei = payload("value", None).replace("\"nonce\"", "\"valueWei\":\"7\",\"nonce\"");
    match SigningPayload::parse(&only_wei).unwrap() {
        SigningPayload::Transaction(transaction) => assert_eq!(transaction.value, U256::from(7)),
        SigningPayload::UserOpHash(_) => panic!("a transaction was sent"),
    }
}

/// Holders of wei send 10^18 for one ether, as a number, as text, and as JavaScript prints it.
#[test]
fn an_amount_of_ether_is_bounded_and_the_refusal_names_wei() {
    let most = U256::from(10).pow(U256::from(24));
    for text in ["1000000", "1e6", "\"1000000.0\""] {
        assert_eq!(wei(text).unwrap(), most, "{text}");
    }
    for text in [
        "1000000.000000000000000001",
        "\"1000001\"",
        "1000000000000000000",
        "\"1000000000000000000\"",
        "1e+21",
        "1e60",
        "1e2147483647",
        "1e99999999999999999999",
        "115792089237316195423570985008687907853269984665640564039457.584007913129639936",
    ] {
        let rejection = wei(text).unwrap_err();
        assert_eq!(rejection.code, Code::InvalidField, "{text}");
        for named in ["valueWei", "0x-hex", "2^256"] {
            assert!(rejection.error.contains(named), "{text}: {rejection}");
        }
    }
    let above = format!("\"{:#x}\"", most + U256::from(1));
    assert_eq!(wei(&above).unwrap(), most + U256::from(1));
}

/// One rule for hex in every member: `0x`, in lower case, once.
#[test]
fn hex_begins_with_0x_once() {
    let (lower, word) = (TO[2..].to_lowercase(), "01".repeat(32));
    let list = |address: &str, key: &str| {
        format!(r#"[{{"address":"{address}","storageKeys":["{key}"]}}]"#)
    };
    let (ours, word) = (format!("0x{lower}"), format!("0x{word}"));
    let prefixes = |text: &str| {
        let digits = text.strip_prefix("0x").unwrap();
        let upper = digits.to_uppercase();
        [
            (format!("0X{digits}"), true),
            (format!("0X{upper}"), true),
            (digits.to_owned(), true),
            (format!("0x0x{digits}"), false),
            (format!("0x0X{upper}"), false),
        ]
    };
    let quoted = |text: &str| format!("\"{text}\"");
    let mut cases = Vec::new();
    for (text, prefix) in prefixes(&ours) {
        cases.push(("to", quoted(&text), "to", prefix));
        cases.push(("from", quoted(&text), "from", prefix));
        cases.push(("data", quoted(&text), "data", prefix));
        let field = "accessList[0].address";
        cases.push(("accessList", list(&text, &word), field, prefix));
        let pair = format!(r#"[["{text}",[]]]"#);
        cases.push(("accessList", pair, "accessList[0][0]", prefix));
    }
    for (text, prefix) in prefixes(&word) {
        let field = "accessList[0].storageKeys[0]";
        cases.push(("accessList", list(&ours, &text), field, prefix));
    }
    for member in ["value", "nonce", "type", "chainId", "gas", "maxFeePerGas"] {
        cases.push((member, quoted("0X2"), member, true));
        cases.push((member, quoted("0x0x2"), member, false));
        cases.push((member, quoted("0x0X2"), member, false));
    }
    for (member, text, field, prefix) in cases {
        let rejection = parse(member, Some(&text)).unwrap_err();
        assert_eq!(rejection.code, Code::InvalidField, "{member} = {text}");
        let field = format!("transaction_payload.{field}");
        assert_eq!(rejection.field.as_deref(), Some(&*field), "{text}");
        let says_prefix = rejection.error.ends_with("must begin with 0x");
        assert_eq!(says_prefix, prefix, "{member} = {text}: {rejection}");
    }
}

#[test]
fn integers_are_refused_with_their_own_limit() {
    let many = "1".repeat(10_000);
    let error = |member, text: &str| parse(member, Some(text)).unwrap_err().error;
    for text in [&*many, &format!("\"{many}\"")] {
        assert!(error("nonce", text).ends_with("must be below 2^64 - 1"));
        assert!(error("gas", text).ends_with("must be below 2^64"));
        assert!(error("maxFeePerGas", text).ends_with("must be below 2^128"));
    }
    for member in ["nonce", "chainId", "value"] {
        let error = error(member, "\"01\"");
        assert!(error.ends_with("must have no leading zeros"), "{error}");
    }
}

#[test]
fn wrong_members_are_refused_by_name() {
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
        ("data", &["\"0x0\"", "\"0xzz\"", "1", "null"]),
        ("accessList", &["{}", "null", "\"0x\""]),
        ("type", &["\"two\"", "-2", "2.0", "null", "[]"]),
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
    for text in [
        "0",
        "1",
        "3",
        "4",
        "5",
        "9",
        "\"0x1\"",
        "\"0x02f8\"",
        "18446744073709551618",
    ] {
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
        SigningPayload::parse(&both).unwrap_err().code,
        Code::DuplicateField
    );
    let twice = payload("gas", Some("1,\"gas\":1"));
    let twice = SigningPayload::parse(&twice).unwrap_err();
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
    for text in ["\"0x2\"", "\"0x02\"", "\"2\""] {
        assert_eq!(parse("type", Some(text)).unwrap().chain_id, 4, "{text}");
    }
    for to in [
        TO.to_lowercase(),
        format!("0x{}", TO[2..].to_uppercase()),
        TO.to_owned(),
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
    match SigningPayload::parse(&creation).unwrap() {
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
}

/// ethers writes pairs, nodes return null for no keys.
#[test]
fn access_lists_of_other_tools_are_taken() {
    let key = format!("0x{}", "01".repeat(32));
    let list = |text: &str| parse("accessList", Some(text)).map(|parsed| parsed.access_list);
    let object = list(&format!(
        r#"[{{"address":"{TO}","storageKeys":["{key}"]}},{{"address":"{TO}","storageKeys":[]}}]"#
    ));
    let pairs = format!(r#"[["{TO}",["{key}"]],["{TO}",[]]]"#);
    assert_eq!(list(&pairs), object);
    let null = format!(r#"[["{TO}",["{key}"]],{{"address":"{TO}","storageKeys":null}}]"#);
    assert_eq!(list(&null), object);
    for (text, field) in [
        (format!(r#"[["{TO}"]]"#), "[0]"),
        (format!(r#"[["{TO}",[],[]]]"#), "[0][2]"),
        (format!(r#"[["{TO}",["0x01"]]]"#), "[0][1][0]"),
        (format!(r#"[{{"address":"{TO}"}}]"#), "[0].storageKeys"),
        (
            r#"[{"address":"0x00","storageKeys":[]}]"#.into(),
            "[0].address",
        ),
        ("[7]".into(), "[0]"),
    ] {
        let field = format!("transaction_payload.accessList{field}");
        assert_eq!(list(&text).unwrap_err().field.as_deref(), Some(&*field));
    }
}

#[test]
fn gas_limit_is_another_name_of_gas() {
    let replaced = |text: &str| {
        let payload = payload("gas", None).replacen('{', &format!("{{{text},"), 1);
        SigningPayload::parse(&payload)
    };
    assert_eq!(
        replaced(r#""gasLimit":100000"#),
        SigningPayload::parse(&payload("", None))
    );
    let both = replaced(r#""gas":1,"gasLimit":1"#).unwrap_err();
    assert_eq!(
        (both.code, both.field.as_deref()),
        (Code::DuplicateField, Some("transaction_payload.gasLimit"))
    );
}

#[test]
fn calldata_has_128_kib_and_no_byte_more() {
    let data = |bytes: usize| format!("\"0x{}\"", "00".repeat(bytes));
    let largest = parse("data", Some(&data(131_072))).unwrap();
    assert_eq!(largest.data.len(), 131_072);
    let rejection = parse("data", Some(&data(131_073))).unwrap_err();
    assert_eq!(
        (rejection.code, rejection.field.as_deref()),
        (Code::BodyTooLarge, Some("transaction_payload.data"))
    );
}

/// EIP-3860's limit of 49 152 bytes is a rule of some chains, and their nodes check it.
#[test]
fn init_code_above_the_limit_of_some_chains_is_signed() {
    let code = format!("\"data\":\"0x{}\",\"nonce\"", "00".repeat(49_153));
    let creation = payload("to", Some("null")).replace("\"nonce\"", &code);
    match SigningPayload::parse(&creation).unwrap() {
        SigningPayload::Transaction(transaction) => assert_eq!(transaction.data.len(), 49_153),
        SigningPayload::UserOpHash(_) => panic!("a transaction was sent"),
    }
}

#[test]
fn a_payload_above_the_limit_is_refused_unread() {
    let long = " ".repeat(crate::limits::MAX_BODY_LEN) + &payload("", None);
    let rejection = SigningPayload::parse(&long).unwrap_err();
    assert_eq!(rejection.code, Code::BodyTooLarge);
}

#[test]
fn user_op_hash_is_32_bytes() {
    let digits = "f3df4bcb3b24437160ba86a88f41d522662ed994dddd11ac477cfc16e9a71869";
    for hash in [digits.to_owned(), format!("0x{digits}")] {
        let parsed = SigningPayload::parse(&format!(r#"{{"userOpHash":"{hash}"}}"#)).unwrap();
        assert_eq!(parsed, SigningPayload::UserOpHash(digits.parse().unwrap()));
    }
    for wrong in [
        "",
        "0x",
        &digits[2..],
        &format!("{digits}00"),
        &digits.replace('f', "x"),
        &format!("0X{digits}"),
        &format!("0x0x{digits}"),
        // 0 and n are 0 modulo n: uninitialised, and forgeable.
        &"00".repeat(32),
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
    ] {
        let rejection =
            SigningPayload::parse(&format!(r#"{{"userOpHash":"{wrong}"}}"#)).unwrap_err();
        assert_eq!(rejection.field.unwrap(), "transaction_payload.userOpHash");
    }
}

/// An amount as an independent decimal implementation reads it.
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
        integer in "0|[1-9][0-9]{0,7}|[1-9][0-9]{0,60}", fraction in "[0-9]{0,20}", exponent in proptest::option::of(-25i32..25),
    ) {
        let point = if fraction.is_empty() { "" } else { "." };
        let exponent_text = exponent.map_or(String::new(), |exponent| format!("e{exponent}"));
        let text = format!("{integer}{point}{fraction}{exponent_text}");
        let most = U256::from(10).pow(U256::from(24));
        match wei(&text) {
            Ok(ours) => prop_assert_eq!(Some(ours), expected_wei(&text)),
            Err(_) => prop_assert!(expected_wei(&text).is_none_or(|wei| wei > most), "{} was refused", text),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, member in "value|to|data|accessList|type", text in "\\PC{0,40}") {
        let _ = SigningPayload::parse(&String::from_utf8_lossy(&bytes));
        let _ = SigningPayload::parse(&payload(&member, Some(&text)));
    }
}
