//! Bad input: the right status, a stable code, the member's name, and nothing changed.

use cloister_e2e::{Key, Local, Refused, TRANSFER};
use cloister_protocol::limits::{MAX_BODY_LEN, MAX_CALLDATA_LEN};
use serde_json::json;

struct Case {
    what: &'static str,
    body: String,
    status: u16,
    code: &'static str,
    field: &'static str,
}

fn case(
    what: &'static str,
    body: impl Into<String>,
    status: u16,
    code: &'static str,
    field: &'static str,
) -> Case {
    Case {
        what,
        body: body.into(),
        status,
        code,
        field,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing() {
    let local = Local::start().await;
    let key = local.generate().await;
    let before = local.rows().await;
    for Case {
        what,
        body,
        status,
        code,
        field,
    } in sign_cases(&key)
    {
        let expected = |form: &str, refused: Refused| {
            assert_eq!(
                (refused.status, refused.code.as_str()),
                (status, code),
                "{what} ({form})"
            );
            assert_eq!(refused.field, field, "{what} ({form})");
            assert!(!refused.retryable, "{what} ({form})");
        };
        expected(
            "route",
            Refused::new(&local.post("/sign_transaction", &body).await),
        );
        let rest = local
            .post(&format!("/key/{}/tx_signature", key.id), &body)
            .await;
        // Where the body names another key, it is the disagreement with the path that is refused.
        if field != "key_id" && what != "another key's id" {
            expected("REST", Refused::new(&rest));
        } else {
            assert_eq!(
                (
                    Refused::new(&rest).status,
                    Refused::new(&rest).field.as_str()
                ),
                (400, "key_id"),
                "{what}"
            );
        }
        if code != "malformed_json" {
            let envelope = format!(r#"{{"operation":"sign_transaction","payload":{body}}}"#);
            expected("operation", Refused::new(&local.post("/", &envelope).await));
            let direct = local.client.invoke("front-door", envelope).await.unwrap();
            assert!(
                !direct.headers.contains_key("x-amz-function-error"),
                "{what}"
            );
            expected(
                "direct",
                Refused::in_body(&cloister_e2e::json_body(&direct)),
            );
        }
    }
    assert_eq!(local.rows().await, before);
    local.sign(&key, TRANSFER).await;
}

fn sign_cases(key: &Key) -> Vec<Case> {
    let changed = |from: &str, to: &str| {
        let payload = TRANSFER.replacen(from, to, 1);
        assert_ne!(payload, TRANSFER, "{from}");
        key.sign_body(&payload)
    };
    let member = |name: &str, value: &str| changed("{", &format!(r#"{{"{name}":{value},"#));
    let with = |id: &str, secret: &str| {
        Key {
            id: id.to_owned(),
            secret: secret.to_owned(),
            ..key.clone()
        }
        .sign_body(TRANSFER)
    };
    let good = key.sign_body(TRANSFER);
    let another = "7e99e372-0eba-4001-8002-35e6a1478070";
    let invalid = |what, body: String, field| case(what, body, 400, "invalid_field", field);
    vec![
        case("no JSON", "not JSON", 400, "malformed_json", ""),
        case(
            "JSON that ends early",
            &good[..good.len() - 1],
            400,
            "malformed_json",
            "",
        ),
        case(
            "two documents",
            format!("{good}{good}"),
            400,
            "malformed_json",
            "",
        ),
        case("an array", "[]", 400, "malformed_json", ""),
        case(
            "an unknown member",
            good.replacen('{', r#"{"extra":1,"#, 1),
            400,
            "unknown_field",
            "extra",
        ),
        case(
            "a duplicate member",
            good.replacen('{', r#"{"secret":"x","#, 1),
            400,
            "duplicate_field",
            "secret",
        ),
        case(
            "an unknown member of the payload",
            member("gasPrice", "1"),
            400,
            "unknown_field",
            "transaction_payload.gasPrice",
        ),
        case(
            "a duplicate member of the payload",
            member("gas", "1"),
            400,
            "duplicate_field",
            "transaction_payload.gas",
        ),
        case(
            "data beside input",
            changed("{", r#"{"data":"0x","input":"0x","#),
            400,
            "duplicate_field",
            "transaction_payload.input",
        ),
        case(
            "no secret",
            json!({ "key_id": key.id, "transaction_payload": {} }).to_string(),
            400,
            "missing_field",
            "secret",
        ),
        case(
            "no payload",
            json!({ "key_id": key.id, "secret": key.secret }).to_string(),
            400,
            "missing_field",
            "transaction_payload",
        ),
        case(
            "no nonce",
            changed(r#""nonce":0,"#, ""),
            400,
            "missing_field",
            "transaction_payload.nonce",
        ),
        case(
            "no type",
            changed(r#""type":2,"#, ""),
            400,
            "missing_field",
            "transaction_payload.type",
        ),
        invalid(
            "a null secret",
            good.replace(&format!("\"{}\"", key.secret), "null"),
            "secret",
        ),
        invalid(
            "a null nonce",
            changed(r#""nonce":0"#, r#""nonce":null"#),
            "transaction_payload.nonce",
        ),
        invalid(
            "a short secret",
            with(&key.id, "nineteen characters"),
            "secret",
        ),
        invalid("a long secret", with(&key.id, &"x".repeat(257)), "secret"),
        invalid(
            "a key id that is no UUID",
            with("key-1", &key.secret),
            "key_id",
        ),
        invalid(
            "a key id in upper case",
            with(&key.id.to_uppercase(), &key.secret),
            "key_id",
        ),
        case(
            "another key's id",
            with(another, &key.secret),
            404,
            "key_not_found",
            "",
        ),
        case(
            "the canary's id",
            with("00000000-0000-0000-0000-000000000000", &key.secret),
            404,
            "key_not_found",
            "",
        ),
        case(
            "a wrong secret",
            with(&key.id, &"x".repeat(64)),
            403,
            "authentication_failed",
            "",
        ),
        invalid(
            "a short address",
            changed("67cf\"", "67\""),
            "transaction_payload.to",
        ),
        invalid(
            "a wrong checksum",
            changed("0xa5D", "0xA5D"),
            "transaction_payload.to",
        ),
        invalid(
            "creation without code",
            changed("\"0xa5D3241A1591061F2a4bB69CA0215F66520E67cf\"", "null"),
            "transaction_payload.to",
        ),
        invalid(
            "a negative value",
            changed("0.01", "-0.01"),
            "transaction_payload.value",
        ),
        invalid(
            "19 decimals",
            changed("0.01", "1e-19"),
            "transaction_payload.value",
        ),
        invalid(
            "not a number",
            changed("0.01", "\"NaN\""),
            "transaction_payload.value",
        ),
        invalid(
            "2^256 wei",
            changed("0.01", &format!("\"0x1{}\"", "0".repeat(64))),
            "transaction_payload.value",
        ),
        invalid(
            "a very large value",
            changed("0.01", "1e300"),
            "transaction_payload.value",
        ),
        invalid(
            "a tip above the fee",
            changed("3000000000", "100000000001"),
            "transaction_payload.maxPriorityFeePerGas",
        ),
        invalid(
            "an odd number of digits",
            member("data", "\"0x123\""),
            "transaction_payload.data",
        ),
        case(
            "a legacy transaction",
            changed("\"type\":2", "\"type\":0"),
            400,
            "unsupported_transaction_type",
            "transaction_payload.type",
        ),
        case(
            "an EIP-2930 transaction",
            changed("\"type\":2", "\"type\":1"),
            400,
            "unsupported_transaction_type",
            "transaction_payload.type",
        ),
        case(
            "a blob transaction",
            changed("\"type\":2", "\"type\":3"),
            400,
            "unsupported_transaction_type",
            "transaction_payload.type",
        ),
        case(
            "an EIP-7702 transaction",
            changed("\"type\":2", "\"type\":4"),
            400,
            "unsupported_transaction_type",
            "transaction_payload.type",
        ),
        invalid(
            "a short UserOp hash",
            key.sign_body(r#"{"userOpHash":"0x1234"}"#),
            "transaction_payload.userOpHash",
        ),
        invalid(
            "a payload that is a string",
            key.sign_body("\"{}\""),
            "transaction_payload",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn making_keys() {
    let local = Local::start().await;
    let before = local.rows().await;
    let secret = cloister_e2e::random_secret();
    let set = |eth_key: &str| json!({ "secret": secret, "eth_key": eth_key }).to_string();
    let invalid = |what, body: String, field| case(what, body, 400, "invalid_field", field);
    let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let imports = [
        invalid("the key 0", set(&"00".repeat(32)), "eth_key"),
        invalid("the key n", set(order), "eth_key"),
        invalid("a key above n", set(&"ff".repeat(32)), "eth_key"),
        invalid("31 bytes", set(&"01".repeat(31)), "eth_key"),
        invalid("33 bytes", set(&"01".repeat(33)), "eth_key"),
        invalid("no hex", set(&"zz".repeat(32)), "eth_key"),
        invalid(
            "a null key",
            format!(r#"{{"secret":"{secret}","eth_key":null}}"#),
            "eth_key",
        ),
        invalid(
            "a short secret",
            json!({ "secret": "short", "eth_key": "01".repeat(32) }).to_string(),
            "secret",
        ),
        case(
            "a key id of one's own",
            json!({ "secret": secret, "eth_key": "01".repeat(32), "key_id": "x" }).to_string(),
            400,
            "unknown_field",
            "key_id",
        ),
    ];
    for Case {
        what,
        body,
        status,
        code,
        field,
    } in imports
    {
        for path in ["/set_key", "/key"] {
            let refused = Refused::new(&local.post(path, &body).await);
            assert_eq!(
                (refused.status, &*refused.code, &*refused.field),
                (status, code, field),
                "{what} ({path})"
            );
        }
    }
    let no_key = Refused::new(
        &local
            .post("/set_key", &json!({ "secret": secret }).to_string())
            .await,
    );
    assert_eq!(
        (&*no_key.code, &*no_key.field),
        ("missing_field", "eth_key")
    );
    let with_key = Refused::new(&local.post("/generate_key", &set(&"01".repeat(32))).await);
    assert_eq!(
        (&*with_key.code, &*with_key.field),
        ("unknown_field", "eth_key")
    );
    assert_eq!(local.rows().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_and_sizes() {
    let local = Local::start().await;
    let key = local.generate().await;
    let other = local.generate().await;
    let before = local.rows().await;

    let refused = Refused::new(
        &local
            .post(
                &format!("/key/{}/tx_signature", other.id),
                &key.sign_body(TRANSFER),
            )
            .await,
    );
    assert_eq!(
        (refused.status, &*refused.code, &*refused.field),
        (400, "invalid_field", "key_id")
    );
    let refused = Refused::new(
        &local
            .post("/key/not-a-uuid/tx_signature", &key.sign_body(TRANSFER))
            .await,
    );
    assert_eq!((refused.status, &*refused.field), (400, "key_id"));

    for (body, code, field) in [
        (
            json!({ "operation": "export_key", "payload": {} }),
            "unknown_operation",
            "operation",
        ),
        (
            json!({ "operation": "sign_transaction" }),
            "missing_field",
            "payload",
        ),
        (json!({ "payload": {} }), "missing_field", "operation"),
        (
            json!({ "operation": "generate_key", "payload": {}, "x": 1 }),
            "unknown_field",
            "x",
        ),
    ] {
        let refused = Refused::new(&local.post("/", &body.to_string()).await);
        assert_eq!(
            (refused.status, &*refused.code, &*refused.field),
            (400, code, field)
        );
    }
    for path in ["/sign", "/key/x", "/generate_key/more"] {
        assert_eq!(
            Refused::new(&local.post(path, "{}").await).status,
            404,
            "{path}"
        );
    }

    let large = key.sign_body(&TRANSFER.replacen(
        '{',
        &format!(r#"{{"data":"0x{}","#, "00".repeat(170_000)),
        1,
    ));
    let refused = Refused::new(&local.post("/sign_transaction", &large).await);
    assert_eq!((refused.status, &*refused.code), (413, "body_too_large"));
    // On its way to the enclave a payload grows, because it travels as a JSON string: a body just
    // within the limit is signed.
    let keys = vec![format!("\"0x{}\"", "07".repeat(32)); 4736].join(",");
    let list = format!(
        r#"{{"accessList":[{{"address":"{}","storageKeys":[{keys}]}}],"#,
        key.address
    );
    let body = key.sign_body(&TRANSFER.replacen('{', &list, 1));
    assert!((MAX_BODY_LEN - 1000..MAX_BODY_LEN).contains(&body.len()));
    assert_eq!(local.post("/sign_transaction", &body).await.status, 200);
    let calldata = |bytes| {
        let data = format!(r#"{{"data":"0x{}","#, "00".repeat(bytes));
        TRANSFER.replacen('{', &data, 1)
    };
    local.sign(&key, &calldata(MAX_CALLDATA_LEN)).await;
    let above = key.sign_body(&calldata(MAX_CALLDATA_LEN + 1));
    let refused = Refused::new(&local.post("/sign_transaction", &above).await);
    assert_eq!(
        (refused.status, &*refused.code, &*refused.field),
        (413, "body_too_large", "transaction_payload.data")
    );
    assert_eq!(local.rows().await, before);
}
